"""What the loop does around a step: log, evaluate, save, stop, clip, give up."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import StageFailedError, StoppedError
from continuum.runs.folder import StageRun
from continuum.training.data import Blocks, ValidationData
from continuum.training.loop import evaluate
from tests.training.loops import CONSTANT, PER_STEP, STEPS, WARM_COSINE, Recorder, make_task
from tests.training.samples import FIELDS, assert_equal_tensors, cpu_fabric, make_state


def test_the_loss_falls_towards_what_the_data_allows(blocks: Blocks, recorder: Recorder) -> None:
    """Each token is one of three after the one before: no model can do better than log 3."""
    fabric = cpu_fabric()
    task = make_task(blocks, num_steps=200, rate=CONSTANT.rate())
    losses = recorder.fit(fabric, make_state(fabric), task)
    assert losses[0] > math.log(FIELDS["padded_vocab_size"]) - 0.2
    assert math.log(3) * 0.9 < sum(losses[-20:]) / 20 < 1.7


def test_the_first_losses_do_not_depend_on_the_micro_batch(blocks: Blocks, tmp_path: Path) -> None:
    losses = []
    for micro in (1, 2, 4):
        run = StageRun(tmp_path / f"pretrain-{micro:012d}")
        run.path.mkdir()
        fabric = cpu_fabric()
        losses.append(Recorder(run).fit(fabric, make_state(fabric), make_task(blocks, micro)))
    assert losses[0] == pytest.approx(losses[2], rel=1e-4)
    assert losses[1] == pytest.approx(losses[2], rel=1e-4)


def test_every_step_is_logged_with_its_tokens_rate_and_norm(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    recorder.fit(fabric, make_state(fabric), make_task(blocks))
    rows = recorder.rows("loss")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["tokens"] for row in rows] == [PER_STEP * row["step"] for row in rows]
    rate = WARM_COSINE.rate()
    assert [row["lr"] for row in rows] == [rate.at(PER_STEP * step) for step in range(STEPS)]
    assert all(row["grad_norm"] > 0 and row["tokens_per_s"] > 0 for row in rows)
    assert rows[-1]["eta_s"] == 0


def test_logging_less_often_still_logs_the_last_step(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    recorder.fit(fabric, make_state(fabric), make_task(blocks, log_every=7))
    assert [row["step"] for row in recorder.rows("loss")] == [7, 14, 21, 28, 30]


@pytest.mark.parametrize(
    ("changes", "saved"),
    [
        ({"checkpoint_every": 10}, [10, 20, 30]),
        ({"checkpoint_every": 12}, [12, 24, 30]),
        ({"checkpoint_every": 1000}, [30]),
        ({"checkpoint_every": 20, "save_steps": frozenset({7})}, [7, 20, 30]),
    ],
    ids=str,
)
def test_it_saves_when_due_at_selected_steps_and_at_the_end(
    blocks: Blocks, recorder: Recorder, changes: dict[str, Any], saved: list[int]
) -> None:
    fabric = cpu_fabric()
    recorder.fit(fabric, make_state(fabric), make_task(blocks, **changes))
    assert recorder.saved == saved


@pytest.mark.parametrize(
    ("every", "final", "steps"),
    [(10, True, [10, 20, 30]), (12, True, [12, 24, 30]), (12, False, [12, 24]), (None, True, [30])],
)
def test_it_evaluates_when_due_and_at_the_end_if_asked(
    blocks: Blocks, recorder: Recorder, every: int | None, final: bool, steps: list[int]
) -> None:
    fabric = cpu_fabric()
    split = {"tokens": ValidationData(blocks, 8, rows=4)}
    task = make_task(blocks, validation=split, evaluate_every=every, evaluate_final=final)
    recorder.fit(fabric, make_state(fabric), task)
    assert [row["step"] for row in recorder.rows("val_loss")] == steps


def test_a_validation_loss_counts_every_row_the_same(blocks: Blocks) -> None:
    fabric = cpu_fabric()
    model = make_state(fabric).model
    uneven = evaluate(fabric, model, ValidationData(blocks, 6400, rows=64))
    one_by_one = evaluate(fabric, model, ValidationData(blocks, 6400, rows=1))
    assert len(blocks) % 64
    assert uneven == pytest.approx(one_by_one, rel=1e-6)
    assert model.training


def test_several_validation_sets_are_told_apart(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    splits = {
        "old": ValidationData(blocks, 4, rows=4),
        "new": ValidationData(blocks, 32, rows=4),
    }
    recorder.fit(
        fabric,
        make_state(fabric),
        make_task(blocks, validation=splits, evaluate_final=True, num_steps=2),
    )
    (row,) = recorder.rows("val_loss")
    assert row["val_loss"] == row["val_loss/old"] != row["val_loss/new"]


def test_a_stop_saves_the_step_it_comes_after(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    recorder.stop_after = 7
    with pytest.raises(StoppedError, match="stopped after step 7; run again"):
        recorder.fit(fabric, make_state(fabric), make_task(blocks))
    assert recorder.saved == [7]


def test_a_stop_at_the_last_step_comes_too_late(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    recorder.stop_after = STEPS
    recorder.fit(fabric, make_state(fabric), make_task(blocks))
    assert recorder.saved == [STEPS]


def test_stopping_and_going_on_changes_nothing(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    unbroken, broken = make_state(fabric), make_state(fabric)
    recorder.fit(fabric, unbroken, make_task(blocks))
    recorder.stop_after = 11
    with pytest.raises(StoppedError):
        recorder.fit(fabric, broken, make_task(blocks))
    fresh = make_state(fabric, seed=99)
    fresh.restore(broken.snapshot())
    recorder.fit(fabric, fresh, make_task(blocks))
    assert_equal_tensors(fresh.snapshot()["model"], unbroken.snapshot()["model"])


@pytest.mark.parametrize("max_norm", [None, 1.0], ids=["free", "clipped"])
def test_a_diverged_run_is_stopped_with_advice_and_saves_nothing(
    blocks: Blocks, recorder: Recorder, max_norm: float | None
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric, optimizer="SGD")
    rate = replace(CONSTANT.rate(), peak_lr=1e30, final_lr=1e30)
    with pytest.raises(
        StageFailedError, match=r"the (loss|gradient norm) is (nan|inf) at step .*lower"
    ):
        recorder.fit(fabric, state, make_task(blocks, rate=rate, max_norm=max_norm))
    assert recorder.saved == []


def test_gradients_are_clipped_to_max_norm(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    task = make_task(blocks, num_steps=1, rate=CONSTANT.rate(), max_norm=1e-3)
    state = make_state(fabric, optimizer="SGD")
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    recorder.fit(fabric, state, task)
    moved = [state.model.state_dict()[name] - tensor for name, tensor in before.items()]
    length = math.sqrt(sum(float(tensor.square().sum()) for tensor in moved))
    assert length == pytest.approx(1e-2 * 1e-3, rel=1e-2)  # fp32 weights round each move
