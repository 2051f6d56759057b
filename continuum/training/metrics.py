"""metrics.jsonl: one row a step or evaluation, in order, none twice, over any number of restarts.

The loggers of `runtime.loggers` show the same rows: see `continuum.training.loggers`.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from continuum.errors import StageFailedError, StoppedError
from continuum.files import append_json_line, write_text
from continuum.runs import StageRun
from continuum.training.loggers.mirror import Mirror
from continuum.training.loggers.series import Outcome, Series, Subject, environment, subject_of

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
            for row in read_metrics(self._run)
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


def read_metrics(run: StageRun) -> list[dict[str, Any]]:
    """The rows of a run, oldest first.

    Raises:
        IntegrityError: a line is none of ours.
    """
    return run.metrics()


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or math.isfinite(value) else None
