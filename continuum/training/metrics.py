"""metrics.jsonl: one row a step or evaluation, in order, none twice, over any number of restarts.

Lightning's loggers, when asked for, are mirrors of the same rows: one folder for the run, not one
for each attempt.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger

from continuum.errors import StageFailedError
from continuum.files import append_json_line, read_json_lines, write_text
from continuum.runs import StageRun


class MetricsLog:
    """Rows of numbers, appended to the run's file and handed to the loggers."""

    def __init__(
        self,
        run: StageRun,
        *,
        attempt: int,
        loggers: tuple[str, ...],
        is_writer: bool = True,
    ) -> None:
        """Open the log; of several processes only the writer's does anything."""
        self._path = run.metrics_path
        self._is_writer = is_writer
        self._attempt = attempt
        self._loggers = [_make_logger(name, run.path / "logs") for name in loggers]

    def continue_from(self, step: int) -> None:
        """Drop the rows after `step`: the steps they tell of will be taken again."""
        if not self._is_writer:
            return
        rows = [row for row in read_json_lines(self._path) if row["step"] <= step]
        if self._path.exists():
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        for logger in self._loggers:
            # Written again from the rows, so that no step is in them twice.
            shutil.rmtree(logger.log_dir, ignore_errors=True)
            for row in rows:
                logger.log_metrics(_numbers(row), step=row["step"])

    def write(self, *, step: int, **values: float | int | None) -> None:
        """Append a row; infinities and NaN are written as null, which JSON has.

        Raises:
            StageFailedError: the disk is full.
        """
        if not self._is_writer:
            return
        row = {"attempt": self._attempt, "step": step, **{k: _finite(v) for k, v in values.items()}}
        try:
            append_json_line(self._path, row)
            for logger in self._loggers:
                logger.log_metrics(_numbers(row), step=step)
        except OSError as error:
            raise StageFailedError(
                f"step {step:,} cannot be recorded in {self._path.parent}: {error.strerror}; "
                "checkpoints are whole: free some space and run again"
            ) from error

    def close(self) -> None:
        """Flush the loggers."""
        for logger in self._loggers:
            logger.save()
            logger.finalize("success")


def read_metrics(run: StageRun) -> list[dict[str, Any]]:
    """The rows of a run, oldest first."""
    return read_json_lines(run.metrics_path)


def _make_logger(name: str, folder: Path) -> Any:
    if name == "csv":
        return CSVLogger(root_dir=folder, name="csv", version="", flush_logs_every_n_steps=1)
    return TensorBoardLogger(root_dir=folder, name="tensorboard", version="")


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in row.items() if k not in ("step", "attempt") and v is not None}


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or math.isfinite(value) else None
