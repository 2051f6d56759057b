"""How long the step loop stands still for a checkpoint."""

import os
from collections.abc import Sequence
from pathlib import Path

from lightning import Fabric

from continuum.experiment.recipe import Recipe
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention
from continuum.training.checkpoint import Companions
from continuum.training.divergence import check_weights
from continuum.training.loop import Task, accumulate_gradients, clip_gradients, take_step
from continuum.training.saving import Saver
from continuum.training.state import TrainingState
from tests.benchmarks.commands import now
from tests.benchmarks.quiet import watched
from tests.benchmarks.rows import Row, Setting, benchmark, paired
from tests.benchmarks.training_parts import FIELDS, begin, small_steps, task_of
from tests.benchmarks.training_spec import MODEL
from tests.support import saving_context
from tests.training.samples import tokenizer_folder

STEPS = 4
"""Between two checkpoints: as many tokens as one step of a whole global batch."""


@benchmark("checkpoint")
def bench_checkpoint(setting: Setting) -> Sequence[Row]:
    """The pause of a training that goes on meanwhile, against saving and flushing the same state.

    Nothing is waited for between two checkpoints: what the one before delays is in the pause.
    """
    recipe = small_steps()
    fabric, state = begin(recipe)
    task = task_of(recipe, setting.work_dir / "tokens")
    saver = _saver(fabric, recipe, setting.work_dir)

    def synchronous() -> float:
        _take_steps(fabric, state, task)
        saver.wait()  # Its writing would slow this one down.
        start = now()
        _save_and_flush(fabric, state, setting.work_dir / "synchronous.ckpt")
        return now() - start

    def ours() -> float:
        _take_steps(fabric, state, task)
        start = now()
        check_weights(fabric, state)
        saver.save(state)
        return now() - start

    with watched() as watch:
        reference, value = paired(synchronous, ours, setting.rounds)
        saver.wait()
    what = f"step-loop pause of a checkpoint, {MODEL}"
    return [
        Row(
            "checkpoint",
            what,
            "fabric.save + fsync",
            reference,
            value,
            "s",
            0.3,
            quiet=watch.quiet,
        )
    ]


def _take_steps(fabric: Fabric, state: TrainingState, task: Task) -> None:
    for _ in range(STEPS):
        accumulate_gradients(fabric, state.model, task, state.step)
        take_step(state, clip_gradients(fabric, state, task))
        state.step += 1


def _save_and_flush(fabric: Fabric, state: TrainingState, path: Path) -> None:
    fabric.save(path, {"model": state.model, "optimizer": state.optimizer, "step": state.step})
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _saver(fabric: Fabric, recipe: Recipe, folder: Path) -> Saver:
    run = StageRun(folder / "runs" / "pretrain-000000000000")
    run.path.mkdir(parents=True)
    ctx = saving_context(run)
    tokenizer_dir = tokenizer_folder(folder / "tokenizer")
    made = TrainingCheckpoint(path=folder, model_config_fields=FIELDS)
    fields = recipe.model_dump(mode="json", exclude_none=True)
    companions = Companions(made, tokenizer_dir, fields)
    return Saver(fabric, ctx, recipe, companions, Retention())
