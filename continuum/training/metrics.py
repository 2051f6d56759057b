"""metrics.jsonl: one row per step or evaluation, in order and without duplicates over restarts.

The loggers of `runtime.loggers` show the same rows: see `continuum.training.loggers`.

A step is logged immediately on a CPU, and one step late on a GPU: reading a number from a GPU waits
until its queue is empty, and then it idles. So a step's numbers are copied to pinned memory
asynchronously, and read after the next step was launched.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import torch
from lightning import Fabric

from continuum.disk_errors import disk_remedy
from continuum.errors import StageFailedError, StoppedError
from continuum.runs.events import Report, Trained
from continuum.runs.files import append_json_line, write_text
from continuum.runs.folder import StageRun
from continuum.training.data import TrainingData
from continuum.training.divergence import DivergedError, check_finite
from continuum.training.loggers.series import (
    Mirror,
    Outcome,
    logged_run,
    make_series,
)
from continuum.training.memory import peak_bytes
from continuum.training.state import TrainingState
from continuum.training.throughput import Clock

_log = logging.getLogger(__name__)


class MetricsLog:
    """Appends rows to the run's metrics.jsonl, which the loggers follow.

    A context manager: leaving it closes the loggers with the outcome of the run.
    """

    def __init__(
        self,
        run: StageRun,
        *,
        attempt: int,
        loggers: tuple[str, ...] = (),
        config: Mapping[str, Any] | None = None,
        warn: Callable[[str], None] = _log.warning,
        is_writer: bool = True,
    ) -> None:
        """Open the log; in processes other than the writer it does nothing.

        Args:
            config: Shown by the loggers next to the numbers.
            warn: Called when a logger fails, from its thread.
        """
        self._run = run
        self._path = run.metrics_path
        self._is_writer = is_writer
        self._attempt = attempt
        self._loggers = dict.fromkeys(loggers if is_writer else ())
        self._config = config or {}
        self._warn = warn
        self._mirrors: list[Mirror] = []

    def continue_from(self, step: int, *, evaluation_pending: bool = False) -> None:
        """Drop the rows that will be computed again: later steps, and a pending evaluation.

        An attempt that was killed between an evaluation and its checkpoint leaves such a row.
        """
        if not self._is_writer:
            return
        rows = [
            row
            for row in self._run.metrics()
            if row["step"] < step
            or (row["step"] == step and not (evaluation_pending and "val_loss" in row))
        ]
        if self._path.exists():
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        for name in self._loggers:
            try:
                series = make_series(name, logged_run(self._run, self._config))
            except Exception as error:  # from a third-party library
                self._warn(f"cannot start logger {name}: {type(error).__name__}: {error}")
            else:
                self._mirrors.append(Mirror(name, series, self._path, self._warn))

    def write(self, *, step: int, **values: float | int | None) -> None:
        """Append a row; NaN and inf, which JSON lacks, are written as null.

        Raises:
            StageFailedError: the disk is full.
        """
        if not self._is_writer:
            return
        row = {
            "attempt": self._attempt,
            "step": step,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **{k: _finite(v) for k, v in values.items()},
        }
        try:
            append_json_line(self._path, row)
        except OSError as error:
            raise StageFailedError(
                f"cannot write the metrics of step {step:,} to {self._path}: {error.strerror}; "
                f"checkpoints are intact: {disk_remedy(error, self._path)} and run again"
            ) from error
        for mirror in self._mirrors:
            mirror.notify()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        outcome: Outcome = "finished"
        if error is not None:
            outcome = "stopped" if isinstance(error, StoppedError) else "failed"
        for mirror in self._mirrors:
            mirror.close(outcome)


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or math.isfinite(value) else None


class Numbers:
    """Scalars on their way from a device to the host."""

    def __init__(self, *scalars: torch.Tensor) -> None:
        """Start to copy them, asynchronously from a GPU."""
        self._done: torch.cuda.Event | None = None
        if scalars[0].device.type != "cuda":
            self._copies = [scalar.detach().clone() for scalar in scalars]
            return
        on_device = torch.stack([scalar.detach().float() for scalar in scalars])
        host = torch.empty(len(scalars), dtype=torch.float32, pin_memory=True)
        self._copies = list(host.copy_(on_device, non_blocking=True))
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done.record()

    def read(self) -> list[float]:
        """Wait for the device and return the scalars."""
        if self._done is not None:
            self._done.synchronize()
        return [float(copy.item()) for copy in self._copies]


class StepLog:
    """Writes and reports the row of each logged step.

    A context manager: a run that ends, stops or diverges writes its pending row.
    """

    def __init__(
        self,
        fabric: Fabric,
        state: TrainingState,
        data: TrainingData,
        clock: Clock,
        *,
        num_steps: int,
        is_late: bool,
        checks_norm: bool,
        log: MetricsLog,
        report: Report,
    ) -> None:
        """Prepare to log.

        Args:
            data: Identifies the samples of a step that diverged.
            is_late: Whether a row stays pending until `write` is called.
            checks_norm: Whether a NaN or inf gradient norm ends the run, as a loss does.
        """
        self._fabric, self._state, self._data, self._clock = fabric, state, data, clock
        self._num_steps, self._is_late, self._checks_norm = num_steps, is_late, checks_norm
        self._log, self._report = log, report
        self._pending: tuple[int, dict[str, Any], Numbers] | None = None

    def add(self, loss: torch.Tensor, norm: torch.Tensor | None) -> None:
        """Log the last step, now or when `write` is called.

        Args:
            loss: Of this process.
            norm: Of the gradients; None if the step was skipped.

        Raises:
            DivergedError: the row is written now, and has NaN or inf.
        """
        state = self._state
        mean = self._fabric.all_reduce(loss, reduce_op="mean")
        assert isinstance(mean, torch.Tensor)
        row = {
            "tokens": state.tokens_seen,
            "tokens_total": state.tokens_total if state.tokens_before_known else None,
            "loss": None,
            "lr": state.learning_rate,
            "grad_norm": None,
            "skipped_steps": state.skipped_steps,
        }
        self._pending = state.step, row, Numbers(mean, *([] if norm is None else [norm]))
        if not self._is_late:
            self.write()

    def write(self) -> None:
        """Write the pending row, if there is one.

        Raises:
            DivergedError: its loss or gradient norm is NaN or inf.
        """
        if self._pending is None:
            return
        (step, row, numbers), self._pending = self._pending, None
        loss, *norms = numbers.read()
        metrics = self._state.metrics
        if not norms:
            metrics.pop("loss", None)
        else:
            row["grad_norm"] = norms[0]
            if self._checks_norm:
                check_finite(norms[0], self._data, step=step, name="gradient norm")
            metrics["loss"] = check_finite(loss, self._data, step=step)
        row["loss"] = metrics.get("loss")
        row |= {**self._clock.measure(step), "memory_bytes": peak_bytes(self._fabric)}
        self._log.write(step=step, **row)
        self._report(Trained(step, self._num_steps, row))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, (StoppedError, DivergedError)):
            self.write()
