"""A training of pythia-14m on made tokens, in this process, without an experiment around it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Fabric

from continuum.experiment.architecture import architecture
from continuum.experiment.recipe import Recipe
from continuum.runs.folder import StageRun
from continuum.training.data import Blocks, Share, TrainingData
from continuum.training.fabric import make_fabric
from continuum.training.loop import Task, fit
from continuum.training.memory import keep_freed_memory
from continuum.training.metrics import MetricsLog
from continuum.training.model import make_state
from continuum.training.order import SampleOrder
from continuum.training.resolved import resolve
from continuum.training.schedule import learning_rate
from continuum.training.state import TrainingState
from tests.benchmarks.rows import Setting
from tests.benchmarks.training_spec import MICRO_BATCH, MODEL, SEQUENCE_LENGTH
from tests.training.samples import make_recipe, write_split

FIELDS: dict[str, Any] = architecture(MODEL, {}).fields
NUM_BLOCKS = 64
TOKENS_PER_STEP = MICRO_BATCH * SEQUENCE_LENGTH
"""One micro-batch: what a step costs besides its batches weighs most."""


def small_steps(length: int = SEQUENCE_LENGTH, micro_batches: int = 1) -> Recipe:
    """A recipe whose steps are one micro-batch, or a few."""
    return make_recipe(
        max_steps=1000,
        sequence_length=length,
        global_batch_size=MICRO_BATCH * micro_batches,
        precision="32-true",
        runtime={"accelerator": "cpu", "micro_batch_size": MICRO_BATCH},
    )


def begin(recipe: Recipe, fields: dict[str, Any] = FIELDS) -> tuple[Fabric, TrainingState]:
    """A Fabric on the CPU and a fresh model with its optimizer; memory kept as a stage keeps it."""
    keep_freed_memory()
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    return fabric, make_state(fabric, recipe, fields, resolved, seed=1)


def task_of(recipe: Recipe, folder: Path, fields: dict[str, Any] = FIELDS) -> Task:
    """What the loop does between two savings or evaluations: neither, and it logs the last step."""
    length, micro_batch = recipe.sequence_length, recipe.micro_batch_size
    num_tokens = NUM_BLOCKS * (length + 1)
    ids = np.random.default_rng(1).integers(0, fields["vocab_size"], num_tokens)
    write_split(folder, ids.tolist(), chunk_tokens=num_tokens)
    blocks = Blocks(folder, length, fields["vocab_size"])
    order = SampleOrder(1, (len(blocks),), (1.0,), ("d" * 64,))
    return Task(
        num_steps=0,
        tokens_per_step=recipe.tokens_per_step,
        rate=learning_rate(recipe, 1000, start_step=0, start_lr=0.0),
        max_norm=1.0,
        log_every=1000,
        evaluate_every=None,
        checkpoint_every=None,
        save_steps=frozenset(),
        data=TrainingData([blocks], order, recipe.global_batch_size, Share(0, 1, micro_batch)),
        validation={},
        evaluate_final=False,
    )


def until(task: Task, num_steps: int) -> Task:
    """The task with another end."""
    return replace(task, num_steps=num_steps)


def fit_steps(
    setting: Setting,
    fabric: Fabric,
    state: TrainingState,
    recipe: Recipe,
    fields: dict[str, Any] = FIELDS,
    *,
    clock: Callable[[], float],
    steps: int,
) -> Callable[[], float]:
    """What takes so many steps of `fit`, and returns how long they took by the clock."""
    task = task_of(recipe, setting.work_dir / "tokens", fields)
    run = StageRun(setting.work_dir / "runs" / "pretrain-000000000000")
    run.path.mkdir(parents=True)
    log = MetricsLog(run, attempt=1)

    def take_steps() -> float:
        start = clock()
        fit(
            fabric,
            state,
            until(task, state.step + steps),
            log=log,
            save=lambda state: None,
            report=lambda event: None,
            should_stop=lambda: False,
        )
        return clock() - start

    return take_steps
