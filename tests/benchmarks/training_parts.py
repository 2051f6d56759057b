"""A training of pythia-14m on made tokens, in this process, without an experiment around it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Fabric

from continuum.architecture import architecture
from continuum.recipe import Recipe
from continuum.training.data import Blocks, Share, TrainingData
from continuum.training.fabric import make_fabric, resolve
from continuum.training.loop import Task
from continuum.training.memory import keep_freed_memory
from continuum.training.order import SampleOrder
from continuum.training.schedule import learning_rate
from continuum.training.setup import make_state
from continuum.training.state import TrainingState
from tests.benchmarks.training_spec import MICRO_BATCH, MODEL, SEQUENCE_LENGTH
from tests.training.samples import make_recipe, write_split

FIELDS: dict[str, Any] = architecture(MODEL, {}).fields
NUM_BLOCKS = 64
TOKENS_PER_STEP = MICRO_BATCH * SEQUENCE_LENGTH
"""One micro-batch: what a step costs besides its batches weighs most."""


def small_steps() -> Recipe:
    """A recipe whose steps are one micro-batch."""
    return make_recipe(
        max_steps=1000,
        sequence_length=SEQUENCE_LENGTH,
        global_batch_size=MICRO_BATCH,
        precision="32-true",
        runtime={"accelerator": "cpu", "micro_batch_size": MICRO_BATCH},
    )


def begin(recipe: Recipe) -> tuple[Fabric, TrainingState]:
    """A Fabric on the CPU and a fresh model with its optimizer; memory kept as a stage keeps it."""
    keep_freed_memory()
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    return fabric, make_state(fabric, recipe, FIELDS, resolved, seed=1)


def task_of(recipe: Recipe, folder: Path) -> Task:
    """What the loop does between two savings or evaluations: neither, and it logs the last step."""
    num_tokens = NUM_BLOCKS * (SEQUENCE_LENGTH + 1)
    ids = np.random.default_rng(1).integers(0, FIELDS["vocab_size"], num_tokens)
    write_split(folder, ids.tolist(), chunk_tokens=num_tokens)
    blocks = Blocks(folder, SEQUENCE_LENGTH, FIELDS["vocab_size"])
    order = SampleOrder(1, (len(blocks),), (1.0,), ("d" * 64,))
    return Task(
        num_steps=0,
        tokens_per_step=TOKENS_PER_STEP,
        rate=learning_rate(recipe, 1000, start_step=0, start_lr=0.0),
        max_norm=1.0,
        log_every=1000,
        evaluate_every=None,
        checkpoint_every=None,
        save_steps=frozenset(),
        data=TrainingData([blocks], order, MICRO_BATCH, Share(0, 1, MICRO_BATCH)),
        validation={},
        evaluate_final=False,
    )


def until(task: Task, num_steps: int) -> Task:
    """The task with another end."""
    return replace(task, num_steps=num_steps)
