"""metrics.jsonl: one row a step or evaluation, in order, none twice, over any number of restarts.

The loggers of `runtime.loggers` show the same rows: see `continuum.training.loggers`.

A step is logged at once on a CPU, and one step late on a GPU: to read a number from a GPU is to
wait until it has done all that it was asked for, and then it has nothing to do. So the numbers of a
step are copied to pinned memory behind it, and read when the next step has been asked for.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import torch
from lightning import Fabric

from continuum.errors import StageFailedError, StoppedError
from continuum.runs.events import Report, Trained
from continuum.runs.files import append_json_line, write_text
from continuum.runs.folder import StageRun
from continuum.training.data import TrainingData
from continuum.training.divergence import DivergedError, check_finite
from continuum.training.loggers.mirror import Mirror
from continuum.training.loggers.series import Outcome, Series, Subject, environment, subject_of
from continuum.training.memory import peak_bytes
from continuum.training.state import TrainingState

_log = logging.getLogger(__name__)


class MetricsLog:
    """Rows of numbers, appended to the run's file, which the loggers follow.

    A context manager: at its end the loggers are told how the run ended.
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
        """Open the log; of several processes only the writer's does anything.

        Args:
            config: What the loggers show beside the numbers.
            warn: Told when a logger does not work, from a thread.
        """
        self._run = run
        self._path = run.metrics_path
        self._is_writer = is_writer
        self._attempt = attempt
        self._loggers = dict.fromkeys(loggers if is_writer else ())
        self._config = config or {}
        self._warn = warn
        self._mirrors: list[Mirror] = []

    def continue_from(self, step: int, *, owes_evaluation: bool = False) -> None:
        """Drop the rows of what will be done again: later steps, and the evaluation if it is owed.

        An attempt that evaluated and was killed before it saved that has left such a row.
        """
        if not self._is_writer:
            return
        rows = [
            row
            for row in self._run.metrics()
            if row["step"] < step
            or (row["step"] == step and not (owes_evaluation and "val_loss" in row))
        ]
        if self._path.exists():
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        for name in self._loggers:
            try:
                series = make_series(name, subject_of(self._run, self._config))
            except Exception as error:  # Of a library that is not ours.
                self._warn(f"the logger {name} cannot be used: {type(error).__name__}: {error}")
            else:
                self._mirrors.append(Mirror(name, series, self._path, self._warn))

    def write(self, *, step: int, **values: float | int | None) -> None:
        """Append a row; infinities and NaN are written as null, which JSON has.

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
                f"step {step:,} cannot be recorded in {self._path.parent}: {error.strerror}; "
                "checkpoints are whole: free some space and run again"
            ) from error
        for mirror in self._mirrors:
            mirror.tell()

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


def make_series(name: str, subject: Subject) -> Series:
    """The logger of this name; what it needs is imported here and nowhere else."""
    if name == "wandb":
        from continuum.training.loggers.wandb import WandbSeries

        return WandbSeries(subject)
    if name == "mlflow":
        with environment(MLFLOW_DISABLE_TELEMETRY="true"):  # looked at while it is imported
            from continuum.training.loggers.mlflow import MlflowSeries

        return MlflowSeries(subject)
    from continuum.training.loggers.files import CsvSeries, TensorBoardSeries

    return CsvSeries(subject) if name == "csv" else TensorBoardSeries(subject)


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or math.isfinite(value) else None


class Clock:
    """Tokens a second and time left, from the time spent in training steps alone."""

    def __init__(
        self,
        *,
        step: int,
        num_steps: int,
        tokens_per_step: int,
        most_tokens_per_s: float | None = None,
    ) -> None:
        """Start the clock.

        Args:
            most_tokens_per_s: What the devices could do at their peak rate, if it is known.
        """
        self._num_steps = num_steps
        self._tokens_per_step = tokens_per_step
        self._most_tokens_per_s = most_tokens_per_s
        self._first_step = self._last_step = step
        self._started_at = self._last_at = time.perf_counter()
        self._paused_s = 0.0
        self._pause_began_at = 0.0

    def measure(self, step: int) -> dict[str, float]:
        """Speed since the last call, and seconds until the end at the average speed.

        With it the model FLOP/s utilization (MFU), where the devices' peak rate is known.
        """
        now = time.perf_counter() - self._paused_s
        tokens = (step - self._last_step) * self._tokens_per_step
        speed = tokens / max(now - self._last_at, 1e-9)
        average_s = (now - self._started_at) / max(1, step - self._first_step)
        self._last_step, self._last_at = step, now
        found = {
            "tokens_per_s": round(speed, 1),
            "eta_s": round(average_s * (self._num_steps - step), 1),
        }
        most = self._most_tokens_per_s
        return found if most is None else {**found, "mfu": round(speed / most, 4)}

    def paused(self) -> "Clock":
        """A context in which the clock stands still: evaluating and saving are not training."""
        return self

    def __enter__(self) -> None:
        self._pause_began_at = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._paused_s += time.perf_counter() - self._pause_began_at


class Numbers:
    """Scalars of a device, on their way to the host."""

    def __init__(self, *scalars: torch.Tensor) -> None:
        """Begin to copy them; a GPU is not waited for."""
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
        """The scalars; waits until the device has computed them."""
        if self._done is not None:
            self._done.synchronize()
        return [float(copy.item()) for copy in self._copies]


class StepLog:
    """Writes and reports the row of each logged step.

    A context manager: a run that ends, stops or diverges leaves no row behind.
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
        """Log nothing yet.

        Args:
            data: Names the samples of a step that diverged.
            is_late: Whether a row waits for `write`.
            checks_norm: Whether a gradient norm that is no number ends the run, as a loss does.
        """
        self._fabric, self._state, self._data, self._clock = fabric, state, data, clock
        self._num_steps, self._is_late, self._checks_norm = num_steps, is_late, checks_norm
        self._log, self._report = log, report
        self._pending: tuple[int, dict[str, Any], Numbers] | None = None

    def add(self, loss: torch.Tensor, norm: torch.Tensor | None) -> None:
        """Log the step that was just taken, now or when `write` is called.

        Args:
            loss: Of this process.
            norm: Of the gradients; None of a step that was skipped.

        Raises:
            DivergedError: what is written now is NaN or infinite.
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
        """Write the row of the step that waits, if one does.

        Raises:
            DivergedError: its loss or its gradients are NaN or infinite.
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
