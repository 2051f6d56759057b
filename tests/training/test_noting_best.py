"""Which evaluated step is noted as the best, and which checkpoints are kept for it."""

import math
from typing import Any

import pytest

from continuum.errors import StoppedError
from continuum.runs.artifacts import TrainingCheckpoint, best_of, best_step, record_best
from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention
from continuum.training.checkpoint import Companions, write_checkpoint
from continuum.training.data import Blocks, ValidationData
from tests.training.loops import Recorder, make_task
from tests.training.samples import Write, cpu_fabric, make_state


def test_the_earliest_of_equals_is_best_and_what_is_no_number_never() -> None:
    metrics: dict[str, float] = {}
    noted = []
    for step, value in enumerate([math.nan, math.inf, 3.0, 2.0, math.nan, 2.0, -math.inf, 2.5]):
        metrics["val_loss"] = value
        noted.append(record_best(metrics, "val_loss", step))
    assert noted == [False, False, True, True, False, False, False, False]
    assert best_step(metrics, "val_loss") == 3


def test_without_a_note_the_rows_say_which_evaluation_was_the_best() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "val_loss": 1.0},  # of what the stage began from
        {"step": 1, "loss": 0.5},
        {"step": 2, "val_loss": 3.0},
        {"step": 4, "val_loss": None},
        {"step": 6, "val_loss": 2.0, "val_loss/code": 4.0},
        {"step": 8, "val_loss": 2.0},
    ]
    assert best_of(rows, "val_loss") == (2.0, 6)
    assert best_of(rows, "val_loss/code") == (4.0, 6)
    assert best_of(rows[:2], "val_loss") is None


def test_a_step_whose_evaluation_was_broken_off_is_saved_again_with_it(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric)
    task = make_task(
        blocks,
        num_steps=7,
        evaluate_every=4,
        validation={"tokens": ValidationData(blocks, 8, rows=4)},
        best_metrics=("val_loss",),
    )
    for asked in (lambda: state.step == 4, lambda: True):  # in the evaluation, then once more
        with pytest.raises(StoppedError, match="after step 4"):
            recorder.fit_until(asked, fabric, state, task)
        assert recorder.saved == [4]
        assert best_step(state.metrics, "val_loss") is None
    recorder.fit_until(lambda: False, fabric, state, task)
    assert recorder.saved == [4, 4, 7]
    assert [row["step"] for row in recorder.rows("val_loss")] == [4]
    assert best_step(state.metrics, "val_loss") == 4


def with_best(saved: TrainingCheckpoint, step: int, best: int) -> TrainingCheckpoint:
    metrics = {"val_loss": 1.0, "best/val_loss": 0.5, "best_step/val_loss": float(best)}
    return saved.model_copy(update={"step": step, "metrics": metrics})


def test_what_any_of_the_last_checkpoints_notes_is_kept(write: Write) -> None:
    best = {10: 10, 20: 20, 30: 30, 40: 30, 50: 50}
    saved = [with_best(write(step), step, noted) for step, noted in best.items()]
    assert Retention(keep_last=2, best_metrics=("val_loss",)).keeps_of(saved) == {30, 40, 50}
    assert Retention(keep_last=2).keeps_of(saved) == {40, 50}


def test_a_loss_that_is_no_number_does_not_keep_a_checkpoint_from_being_written(
    run: StageRun, snapshot: dict[str, Any], beside: Companions
) -> None:
    metrics = {"loss": 1.0, "val_loss": math.nan}
    saved = write_checkpoint(run, {**snapshot, "metrics": metrics}, beside)
    assert saved.metrics == {"loss": 1.0}
