"""Rows that are written one step late, as on a GPU: the same rows, none missing at any end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Fabric

from continuum.errors import StageFailedError, StoppedError
from continuum.events import Event, Trained, Warned
from continuum.runs import StageRun
from continuum.training.data import Blocks, ValidationData
from continuum.training.metrics import Numbers
from continuum.training.state import TrainingState
from tests.training.loops import STEPS, Recorder, make_task
from tests.training.samples import cpu_fabric, make_state

OF_TIME = ("at", "tokens_per_s", "eta_s", "memory_bytes")


class Watcher(Recorder):
    """Notes how far training was when it reported a step, and which rows it had when it saved."""

    def __init__(self, run: StageRun, state: TrainingState) -> None:
        super().__init__(run)
        self.reported: dict[int, int] = {}
        self.rows_when_saved: dict[int, int] = {}
        self.events = _Events(lambda step: self.reported.setdefault(step, state.step))
        self.saved = _Saved(lambda step: self.rows_when_saved.setdefault(step, self.last_row()))

    def last_row(self) -> int:
        return int(self.rows("lr")[-1]["step"])


class _Events(list[Event]):
    def __init__(self, note: Callable[[int], Any]) -> None:
        super().__init__()
        self._note = note

    def append(self, event: Event) -> None:
        super().append(event)
        if isinstance(event, Trained):
            self._note(event.step)


class _Saved(list[int]):
    def __init__(self, note: Callable[[int], Any]) -> None:
        super().__init__()
        self._note = note

    def append(self, step: int) -> None:
        super().append(step)
        self._note(step)


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Watcher]:
    """Fit a fresh model; what was seen, even of a run that stops or fails."""

    def watch(
        blocks: Blocks, *, stop_after: int | None = None, poisoned: int = -1, **task: Any
    ) -> Any:
        run = StageRun(tmp_path / f"pretrain-{len(list(tmp_path.iterdir())):012d}")
        run.path.mkdir()
        fabric = cpu_fabric()
        state = make_state(fabric)
        parameter: Any = next(state.model.parameters())
        parameter.register_hook(
            lambda grad: torch.full_like(grad, torch.nan) if state.step == poisoned else grad
        )
        watcher = Watcher(run, state)
        watcher.stop_after = stop_after
        try:
            watcher.fit(fabric, state, make_task(blocks, **task))
        except (StoppedError, StageFailedError) as error:
            watcher.events.append(Warned(str(error)))
        return watcher

    return watch


def told(watcher: Watcher) -> list[dict[str, Any]]:
    """The rows without what hangs on the time."""
    rows = watcher.rows("step")
    return [{key: row[key] for key in row.keys() - set(OF_TIME)} for row in rows]


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"log_every": 7},
        {"checkpoint_every": 4, "stop_after": 11},
        {"log_every": 5, "stop_after": 11},
        {"skips_nonfinite": True, "poisoned": 5},
        {"log_every": 4, "evaluate_every": 4, "evaluate_final": True},
    ],
    ids=str,
)
def test_late_rows_are_those_of_a_cpu(
    task: dict[str, Any], blocks: Blocks, watch: Callable[..., Watcher]
) -> None:
    if "evaluate_every" in task:
        task = {**task, "validation": {"tokens": ValidationData(blocks, 8, rows=4)}}
    at_once, late = watch(blocks, **task), watch(blocks, **task, logs_late=True)
    assert told(late) == told(at_once)
    assert late.saved == at_once.saved
    assert late.rows_when_saved == at_once.rows_when_saved
    assert {step: step for step in at_once.reported} == at_once.reported


def test_a_late_row_waits_for_the_next_step_unless_something_needs_it(
    blocks: Blocks, watch: Callable[..., Watcher]
) -> None:
    late = watch(blocks, logs_late=True, checkpoint_every=10)
    needed = {10, 20, STEPS}
    expected = {step: step if step in needed else step + 1 for step in range(1, STEPS + 1)}
    assert late.reported == expected


@pytest.mark.parametrize("log_every", [1, 2])
def test_a_late_look_at_what_diverged_names_its_step_and_saves_nothing(
    log_every: int, blocks: Blocks, watch: Callable[..., Watcher]
) -> None:
    task = {"checkpoint_every": 4, "log_every": log_every, "poisoned": 4}
    at_once, late = watch(blocks, **task), watch(blocks, **task, logs_late=True)
    assert late.events[-1] == at_once.events[-1]
    assert "is nan at step" in str(late.events[-1])
    assert late.saved == at_once.saved == [4]


@pytest.mark.gpu
def test_numbers_of_a_gpu_are_read_without_a_wait_of_its_own() -> None:
    values = torch.rand(2, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        numbers = Numbers(values[0], values[1])
        read = numbers.read()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert read == values.tolist()


@pytest.mark.gpu
def test_training_waits_for_nothing_where_every_step_is_logged(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = Fabric(accelerator="cuda", devices=1, precision="32-true")
    fabric.launch()
    state = make_state(fabric, fused=True)
    task = make_task(blocks, logs_late=True)

    def set_mode() -> bool:
        """After each step: libraries are set up in the first, and the last is saved."""
        is_between = 0 < state.step < STEPS - 1
        torch.cuda.set_sync_debug_mode("error" if is_between else "default")
        return False

    try:
        recorder.fit_until(set_mode, fabric, state, task)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [row["step"] for row in recorder.rows("loss")] == list(range(1, STEPS + 1))
