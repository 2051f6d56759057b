"""Follow metrics.jsonl with a logger: the interface, the run it shows, the thread that feeds it."""

import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml

from continuum.runs.files import write_text
from continuum.runs.folder import FINGERPRINT_LETTERS, StageRun

Row = Mapping[str, Any]
"""A line of metrics.jsonl."""
Outcome = Literal["finished", "stopped", "failed"]
_NOT_NUMBERS = ("step", "attempt", "at")
LOGGERS_DIR = "loggers"
ID_FILE = "id.txt"
RETRY_S = 60.0
"""Seconds until a failed logger is retried."""
CLOSE_S = 30.0
"""How long the end of a run waits for a logger: far less than a stopped run has to save."""


@dataclass(frozen=True)
class LoggedRun:
    """The run that a logger shows."""

    folder: Path
    """Of the loggers' files, in the run folder."""
    run: str
    """The run folder's name."""
    group: str
    """The experiment folder's name, with characters that every service accepts."""
    id: str
    """Unique, and the same over restarts: W&B's id, a tag in MLflow."""
    config: Mapping[str, Any]


class Series(Protocol):
    """One logger's copy of the rows of a run."""

    def begin(self, rows: list[Row]) -> None:
        """Open it with exactly these rows; called again after any failure."""

    def write(self, row: Row) -> None:
        """Append a row."""

    def end(self, outcome: Outcome) -> None:
        """Flush and close it."""


def logged_run(run: StageRun, config: Mapping[str, Any]) -> LoggedRun:
    """Describe a run for its loggers; its id is created once and kept in the run folder."""
    folder = run.path / LOGGERS_DIR
    kept = folder / ID_FILE
    if not kept.exists():
        # Not only the fingerprint: a copy of the folder, or a rerun, is another run.
        write_text(kept, f"{run.name[-FINGERPRINT_LETTERS:]}-{secrets.token_hex(4)}\n")
    return LoggedRun(
        folder=folder,
        run=run.name,
        group=re.sub(r"[^A-Za-z0-9._-]+", "-", run.experiment_folder.resolve().name),
        id=kept.read_text(encoding="utf-8").strip(),
        config=config,
    )


def numbers(row: Row) -> dict[str, float]:
    """The metrics of a row."""
    return {k: v for k, v in row.items() if k not in _NOT_NUMBERS and v is not None}


def is_evaluation(row: Row) -> bool:
    """Whether a row is of an evaluation; otherwise it is of a training step."""
    return "lr" not in row


def time_of(row: Row) -> float:
    """When the row was written, in seconds since 1970."""
    return datetime.fromisoformat(row["at"]).timestamp()


def as_yaml(config: Mapping[str, Any]) -> str:
    """The configuration as text."""
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return text


@contextmanager
def environment(**defaults: str) -> Iterator[None]:
    """Set environment variables that are unset; restore them at the end."""
    before = {name: os.environ.get(name) for name in defaults}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, earlier in before.items():
            if earlier is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = earlier


class Mirror:
    """Follows the rows of a file into a series; a failure is reported once, and retried."""

    def __init__(self, name: str, series: Series, path: Path, warn: Callable[[str], None]) -> None:
        """Start to follow; `warn` is called from the mirror's thread."""
        self._name = name
        self._series = series
        self._path = path
        self._warn = warn
        self._has_warned = False
        self._position: int | None = None
        """Bytes of the file that the series has; None if it must be rebuilt."""
        self._news = threading.Event()
        self._closing = threading.Event()
        self._outcome: Outcome = "failed"
        self._thread = threading.Thread(target=self._follow, name=f"logger-{name}", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Announce new rows."""
        self._news.set()

    def close(self, outcome: Outcome) -> None:
        """Write the last rows and end the series, unless that takes too long."""
        self._outcome = outcome
        self._closing.set()
        self._news.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._warn_once(f"timed out after {CLOSE_S:g} s while writing the last rows")

    def _follow(self) -> None:
        is_last = False
        while not is_last:
            self._news.clear()
            is_last = self._closing.is_set()  # after clear(), so that a wake-up is not lost
            try:
                self._catch_up()
                if is_last:
                    self._series.end(self._outcome)
            except Exception as error:  # of any library or server: training continues
                self._position = None
                self._warn_once(f"{type(error).__name__}: {' '.join(str(error).split())}")
                self._closing.wait(RETRY_S)
            else:
                if not is_last:
                    self._news.wait()

    def _catch_up(self) -> None:
        rows, end = _read_rows(self._path, self._position or 0)
        if self._position is None:
            self._series.begin(rows)
        else:
            for row in rows:
                self._series.write(row)
        self._position = end

    def _warn_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"logger {self._name} failed: {message}; training continues without it, and "
                "metrics.jsonl has all rows"
            )


def _read_rows(path: Path, start: int) -> tuple[list[Row], int]:
    """The complete lines after a position in bytes, and the position after them."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        finished, newline, _ = file.read().rpartition(b"\n")
    return [json.loads(line) for line in finished.splitlines()], start + len(finished + newline)


def make_series(name: str, logged: LoggedRun) -> Series:
    """Create the logger of this name, importing its library."""
    if name == "wandb":
        from continuum.training.loggers.wandb import WandbSeries

        return WandbSeries(logged)
    if name == "mlflow":
        with environment(MLFLOW_DISABLE_TELEMETRY="true"):  # read at import
            from continuum.training.loggers.mlflow import MlflowSeries

        return MlflowSeries(logged)
    from continuum.training.loggers.files import CsvSeries, TensorBoardSeries

    return CsvSeries(logged) if name == "csv" else TensorBoardSeries(logged)
