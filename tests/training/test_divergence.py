"""Steps that go wrong, evaluations that are broken off, saving by the clock, and what is kept."""

import math
import threading
import time
from collections.abc import Container, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from continuum.errors import StageFailedError, StoppedError
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention, last_good
from continuum.training.data import Blocks, TrainingData, ValidationBatch, ValidationData
from continuum.training.divergence import MAX_SKIPPED_IN_A_ROW, DivergedError, check_finite
from continuum.training.saving import BackgroundWriter
from tests.support import warnings_in
from tests.training.loops import CONSTANT, PER_STEP, STEPS, Recorder, make_task
from tests.training.samples import Write, assert_equal_tensors, cpu_fabric, make_state


def poison(state: Any, steps: Container[int]) -> None:
    """Make the gradients of steps NaN, through a hook on a real parameter."""
    parameter = next(state.model.parameters())
    parameter.register_hook(
        lambda grad: torch.full_like(grad, torch.nan) if state.step in steps else grad
    )


def test_a_step_without_finite_gradients_ends_the_run_and_names_its_samples(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state, task = make_state(fabric), make_task(blocks, checkpoint_every=2)
    poison(state, {5})
    with pytest.raises(StageFailedError) as error:
        recorder.fit(fabric, state, task)
    first = task.data.sample_ids(5)[0]
    assert "gradient norm is nan at step 6" in str(error.value)
    assert f"samples {first[0]}:{first[1]}" in str(error.value)
    assert recorder.saved == [2, 4]


def test_a_skipped_step_leaves_the_weights_and_is_counted(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric)
    task = make_task(blocks, skips_nonfinite=True, rate=CONSTANT.rate(), num_steps=6)
    poison(state, {5})
    before: list[dict[str, torch.Tensor]] = []
    recorder.saved = _Snoop(state, before)
    recorder.fit(fabric, state, make_task(blocks, **_same(task), checkpoint_every=5))
    assert state.skipped_steps == 1
    assert state.step == 6
    assert_equal_tensors(before[0], state.snapshot()["model"])
    assert recorder.rows("lr")[-1]["skipped_steps"] == 1


def test_gradients_that_are_never_finite_are_not_skipped_for_ever(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state, task = make_state(fabric), make_task(blocks, skips_nonfinite=True, checkpoint_every=2)
    poison(state, range(5, STEPS))
    with pytest.raises(DivergedError, match="10 steps in a row, up to step 15"):
        recorder.fit(fabric, state, task)
    assert recorder.rows("loss")[-1]["loss"] is None
    assert "loss" not in state.metrics, "the last step has none"


def test_single_bad_steps_never_add_up_to_a_divergence(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    state, task = make_state(fabric), make_task(blocks, skips_nonfinite=True)
    bad = range(1, STEPS, 2)
    assert len(bad) > MAX_SKIPPED_IN_A_ROW
    poison(state, bad)
    recorder.fit(fabric, state, task)
    assert (state.step, state.skipped_steps) == (STEPS, len(bad))
    assert state.skipped_tokens == len(bad) * PER_STEP
    assert state.tokens_total == state.tokens_seen - state.skipped_tokens


def test_a_stretch_of_skipped_steps_is_as_long_after_a_stop_as_without(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state, task = make_state(fabric), make_task(blocks, skips_nonfinite=True)
    poison(state, range(5, STEPS))
    recorder.stop_after = 9
    with pytest.raises(StoppedError):
        recorder.fit(fabric, state, task)
    fresh = make_state(fabric)
    fresh.restore(state.snapshot())
    poison(fresh, range(5, STEPS))
    with pytest.raises(DivergedError, match="10 steps in a row, up to step 15") as caught:
        recorder.fit_until(lambda: False, fabric, fresh, task)
    assert caught.value.last_taken == 5


@pytest.mark.parametrize(
    ("saved", "last_taken", "good"),
    [
        ([2, 4, 6, 8, 10], 5, 4),
        ([2, 4, 5, 6], 5, 4),  # step 5 may be what went wrong
        ([5, 10], 5, None),
        ([], 5, None),
    ],
)
def test_the_last_good_checkpoint_is_from_before_the_explosion(
    saved: list[int], last_taken: int, good: int | None
) -> None:
    assert last_good(saved, last_taken) == good


def test_the_last_good_checkpoint_is_kept_while_steps_are_skipped(write: Write) -> None:
    def skipping(step: int, in_a_row: int) -> TrainingCheckpoint:
        saved = write(step)
        return saved.model_copy(update={"step": step, "skipped_in_a_row": in_a_row})

    saved = [skipping(*at) for at in ((3, 0), (4, 0), (5, 0), (6, 1), (7, 2), (8, 3))]
    assert Retention(keep_last=2).keeps_of(saved) == {4, 7, 8}
    assert Retention(keep_last=2).keeps_of(saved[:3]) == {4, 5}


@pytest.mark.parametrize("skips", [False, True])
def test_weights_that_are_no_numbers_are_never_saved(
    blocks: Blocks, recorder: Recorder, *, skips: bool
) -> None:
    """With `eps: 0` the moments of unused embeddings are 0 / 0, and the loss does not show it."""
    fabric = cpu_fabric()
    state = make_state(fabric, eps=0.0)
    task = make_task(blocks, checkpoint_every=1, skips_nonfinite=skips)
    with pytest.raises(DivergedError, match="weights are NaN or inf after step 1"):
        recorder.fit(fabric, state, task)
    assert recorder.saved == []


@pytest.mark.parametrize("skips", [False, True])
def test_a_validation_loss_that_is_no_number_is_told(
    blocks: Blocks, recorder: Recorder, *, skips: bool
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric)
    split = {"tokens": ValidationData(blocks, 4, rows=4)}
    task = make_task(blocks, evaluate_every=2, validation=split, skips_nonfinite=skips, num_steps=2)
    head = state.model.get_submodule("lm_head")
    head.register_forward_hook(
        lambda module, _, logits: logits if module.training else logits * math.inf
    )
    if not skips:
        with pytest.raises(DivergedError, match="val_loss is inf at step 2"):
            recorder.fit(fabric, state, task)
        assert recorder.saved == []
        return
    recorder.fit(fabric, state, task)
    (warning,) = warnings_in(recorder.events)
    assert warning == "val_loss is inf at step 2: training has diverged"


def test_an_owed_evaluation_is_forgotten_when_nothing_is_evaluated_any_more(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric)
    recorder.fit(fabric, state, make_task(blocks, num_steps=2))
    state.evaluation_pending = True
    recorder.fit(fabric, state, make_task(blocks, num_steps=4))
    assert not state.evaluation_pending
    assert recorder.saved == [2, 4]


class _Snoop(list[int]):
    """Keeps the weights at each save."""

    def __init__(self, state: Any, kept: list[dict[str, torch.Tensor]]) -> None:
        super().__init__()
        self._state, self._kept = state, kept

    def append(self, step: int) -> None:
        super().append(step)
        self._kept.append(self._state.snapshot()["model"])


def _same(task: Any) -> dict[str, Any]:
    names = ("skips_nonfinite", "rate", "num_steps")
    return {name: getattr(task, name) for name in names}


class _StopsInEvaluation(ValidationData):
    """Real validation batches; tells when the second one is asked for."""

    def __init__(self, blocks: Blocks, asked: threading.Event) -> None:
        super().__init__(blocks, 16, rows=4)
        self._asked = asked

    def batches(self) -> Iterator[ValidationBatch]:
        for number, batch in enumerate(super().batches()):
            if number == 1:
                self._asked.set()
            yield batch


def test_a_stop_breaks_off_an_evaluation_that_the_next_attempt_makes_good(
    blocks: Blocks, recorder: Recorder, run: StageRun
) -> None:
    fabric = cpu_fabric()
    asked = threading.Event()
    task = make_task(
        blocks, evaluate_every=4, validation={"tokens": _StopsInEvaluation(blocks, asked)}
    )
    state = make_state(fabric)
    with pytest.raises(StoppedError, match="after step 4"):
        recorder.fit_until(asked.is_set, fabric, state, task)
    assert recorder.saved == [4]
    assert not recorder.rows("val_loss")
    fresh = make_state(fabric)
    fresh.restore(state.snapshot())
    recorder.fit_until(lambda: False, fabric, fresh, task)
    assert [row["step"] for row in recorder.rows("val_loss")] == [4, 8, 12, 16, 20, 24, 28]


def test_a_stop_in_the_last_evaluation_does_not_end_the_run_without_it(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric, asked = cpu_fabric(), threading.Event()
    split = _StopsInEvaluation(blocks, asked)
    task = make_task(blocks, evaluate_final=True, validation={"tokens": split})
    state = make_state(fabric)
    with pytest.raises(StoppedError, match=f"after step {STEPS}"):
        recorder.fit_until(asked.is_set, fabric, state, task)
    assert recorder.saved == [STEPS]
    fresh = make_state(fabric)
    fresh.restore(state.snapshot())
    recorder.fit_until(lambda: False, fabric, fresh, task)
    assert recorder.saved == [STEPS, STEPS], "the step is saved again with its evaluation"
    assert [row["step"] for row in recorder.rows("val_loss")] == [STEPS]
    assert "val_loss" in fresh.metrics
    assert not fresh.evaluation_pending


def test_the_clock_saves_where_no_step_says_so(blocks: Blocks, recorder: Recorder) -> None:
    fabric = cpu_fabric()
    task = make_task(blocks, checkpoint_every=None, checkpoint_minutes=1e-9)
    recorder.fit(fabric, make_state(fabric), task)
    assert recorder.saved == list(range(1, 31))


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(keep_last=2), {40, 50}),
        (Retention(keep_last=2, keep_steps=frozenset({10})), {10, 40, 50}),
        (Retention(keep_last=2, keep_every=20), {20, 40, 50}),
        (Retention(keep_last=2, keep_best="val_loss"), {20, 40, 50}),
        (Retention(keep_last=2, keep_best="unknown"), {40, 50}),
    ],
    ids=["last", "selected", "every", "best", "unknown metric"],
)
def test_what_is_kept(retention: Retention, kept: set[int], write: Write) -> None:
    losses = {10: 3.0, 20: 1.0, 30: 1.2, 40: 1.1, 50: 1.5}
    saved = [with_loss(write(step), step, loss) for step, loss in losses.items()]
    assert retention.keeps_of(saved) == kept


def with_loss(saved: TrainingCheckpoint, step: int, loss: float) -> TrainingCheckpoint:
    return saved.model_copy(update={"step": step, "metrics": {"val_loss": loss}})


def test_the_writer_has_one_snapshot_in_flight_and_waits_for_it() -> None:
    written: list[int] = []

    def write(snapshot: dict[str, Any]) -> None:
        time.sleep(0.05)
        written.append(snapshot["step"])

    writer = BackgroundWriter()
    writer.submit(partial(write, {"step": 1}))
    assert written == []
    writer.submit(partial(write, {"step": 2}))
    assert written == [1]
    writer.wait()
    assert written == [1, 2]


def test_a_failed_write_is_raised_at_the_next_call_and_only_once() -> None:
    def write(snapshot: dict[str, Any]) -> None:
        raise StageFailedError("the disk is full")

    writer = BackgroundWriter()
    writer.submit(partial(write, {"step": 1}))
    with pytest.raises(StageFailedError, match="disk is full"):
        writer.wait()
    writer.wait()


def test_a_snapshot_does_not_change_when_training_goes_on(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric)
    taken = state.snapshot()["model"]
    copied = {name: tensor.clone() for name, tensor in taken.items()}
    recorder.fit(fabric, state, make_task(blocks, rate=CONSTANT.rate()))
    assert_equal_tensors(taken, copied)


def test_sample_ids_are_those_of_the_batches(blocks: Blocks) -> None:
    data: TrainingData = make_task(blocks).data
    numbers = [number for _, number in data.sample_ids(3)]
    (inputs, _), *_ = data.micro_batches(3)
    assert [blocks.read(n)[:-1].tolist() for n in numbers] == inputs.tolist()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_loss_that_is_no_number_ends_the_run(value: float, blocks: Blocks) -> None:
    data = make_task(blocks).data
    assert check_finite(torch.tensor(2.5), data, step=3) == 2.5
    with pytest.raises(DivergedError, match=f"the loss is {value} at step 3"):
        check_finite(torch.tensor(value), data, step=3)
