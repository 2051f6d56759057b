"""Rows that are written one step late, as on a GPU: the same rows, none missing at any end."""

import math
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Fabric

from continuum.errors import StageFailedError, StoppedError
from continuum.runs.events import Event, Trained, Warned
from continuum.runs.folder import StageRun
from continuum.training.data import Blocks, ValidationData
from continuum.training.metrics import MetricsLog, Numbers
from continuum.training.state import TrainingState
from continuum.training.throughput import Clock, listed_peak, most_tokens_per_s, peak_flops
from tests.training.conftest import DATA_STAGES
from tests.training.loops import STEPS, Recorder, make_task
from tests.training.samples import Trials, cpu_fabric, make_state

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


def test_a_retaken_step_is_one_row(trials: Trials) -> None:
    """Stopped after step 13 with its last checkpoint lost: steps 11 to 13 are taken again."""
    trials.write(only=(*DATA_STAGES, "pretrain"))
    trials.carry_out(stop_at=13)
    shutil.rmtree(trials.stage_run("pretrain").checkpoint_dir(13))
    trials.carry_out().raise_for_failure()
    rows = [row for row in trials.rows("pretrain") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert [row["attempt"] for row in rows] == [1] * 10 + [2] * 10


@pytest.mark.parametrize(("owes", "kept"), [(True, ["loss"]), (False, ["loss", "val_loss"])])
def test_an_evaluation_that_is_owed_will_be_one_row(
    run: StageRun, owes: bool, kept: list[str]
) -> None:
    log = MetricsLog(run, attempt=1)
    log.write(step=4, loss=1.5)
    log.write(step=4, val_loss=1.5)
    log.write(step=5, loss=1.4)
    log.continue_from(4, evaluation_pending=owes)
    rows = run.metrics()
    assert [row["step"] for row in rows] == [4] * len(kept)
    assert [name for row in rows for name in row if name in ("loss", "val_loss")] == kept


def test_infinite_numbers_are_written_as_json_has_them(run: StageRun) -> None:
    log = MetricsLog(run, attempt=1)
    log.write(step=1, loss=1.5, grad_norm=math.inf, lr=math.nan, note=None)
    (row,) = run.metrics()
    at = datetime.fromisoformat(row.pop("at"))
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert row == {
        "attempt": 1, "step": 1, "loss": 1.5, "grad_norm": None, "lr": None, "note": None,
    }  # fmt: skip


def test_a_log_that_cannot_be_written_is_told(run: StageRun) -> None:
    run.metrics_path.mkdir()
    with pytest.raises(StageFailedError, match=r"write the metrics of step 3 to .*checkpoints are"):
        MetricsLog(run, attempt=1).write(step=3, loss=1.5)


BF16 = {
    "NVIDIA GB200": 2500,
    "NVIDIA GB300": 2500,
    "NVIDIA B200": 2250,
    "NVIDIA B300 SXM6 AC": 2250,
    "NVIDIA H200": 989.5,
    "NVIDIA H200 NVL": 835.5,
    "NVIDIA GH200 480GB": 989.5,
    "NVIDIA H100 80GB HBM3": 989.5,
    "NVIDIA H100 PCIe": 756.5,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA A800-SXM4-80GB": 312,
    "NVIDIA A30": 165,
    "NVIDIA A40": 149.7,
    "NVIDIA A10": 125,
    "NVIDIA A10G": 70,
    "NVIDIA L4": 121,
    "NVIDIA L40": 181,
    "NVIDIA L40S": 362,
    "NVIDIA RTX A6000": 154.8,
    "NVIDIA RTX 6000 Ada Generation": 364.2,
    "NVIDIA GeForce RTX 3090": 71,
    "NVIDIA GeForce RTX 4090": 165.2,
    "NVIDIA GeForce RTX 5090": 209.5,
}


@pytest.mark.parametrize("name", BF16)
def test_a_device_has_the_dense_rate_of_its_data_sheet(name: str) -> None:
    for precision in ("bf16-mixed", "bf16-true", "16-mixed"):
        assert listed_peak(name, precision, tf32=True) == pytest.approx(BF16[name] * 1e12)


def test_fp32_has_the_rate_of_the_cores_that_it_runs_on() -> None:
    h100 = "NVIDIA H100 80GB HBM3"
    assert listed_peak(h100, "32-true", tf32=True) == 494.5e12
    assert listed_peak(h100, "32-true", tf32=False) == 67e12


@pytest.mark.parametrize(
    "name",
    [
        "Tesla T4",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A1000",
        "AMD Instinct MI300X",
    ],
)
def test_what_is_not_listed_has_no_rate_of_another(name: str) -> None:
    assert listed_peak(name, "bf16-mixed", tf32=True) is None


def test_the_most_tokens_a_second_are_known_where_the_rate_is() -> None:
    h100 = "NVIDIA H100 80GB HBM3"
    assert most_tokens_per_s(h100, "bf16-mixed", 8, 1000) == pytest.approx(8 * 989.5e9)
    assert most_tokens_per_s(None, "bf16-mixed", 8, 1000) is None, "a CPU"
    assert most_tokens_per_s(h100, "bf16-mixed", 8, None) is None, "a model that is not counted"
    assert most_tokens_per_s("NVIDIA H100 MIG 1g.10gb", "bf16-mixed", 8, 1000) is None


def test_utilization_is_the_speed_by_the_most() -> None:
    clock = {"step": 0, "num_steps": 10, "tokens_per_step": 10**6}
    row = Clock(**clock, most_tokens_per_s=1e9).measure(1)
    assert row["mfu"] == pytest.approx(row["tokens_per_s"] / 1e9, abs=1e-4)
    assert Clock(**clock).measure(1).keys() == {"tokens_per_s", "eta_s"}


@pytest.mark.gpu
def test_a_gpus_rows_have_their_utilization(trials: Trials) -> None:
    names = ("prose", "tokenizer", "tokens", "pretrain")
    trials.run(only=names, pretrain__max_steps=3, pretrain__runtime={"accelerator": "cuda"})
    rows = [row for row in trials.rows("pretrain") if "loss" in row]
    assert all(0 < row["mfu"] < 1 for row in rows)


@pytest.mark.gpu
def test_this_machines_gpu_has_a_rate() -> None:
    name = torch.cuda.get_device_name(0)
    bf16, fp32 = (peak_flops(name, precision) for precision in ("bf16-mixed", "32-true"))
    assert not math.isnan(bf16)
    assert bf16 > fp32
