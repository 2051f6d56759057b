"""What a logger must do, and what it is told about the run it shows."""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
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


@dataclass(frozen=True)
class Subject:
    """The run that a logger shows."""

    folder: Path
    """Where its files go, below the run folder."""
    run: str
    """The run folder's name."""
    group: str
    """The experiment folder's name, with letters that every service takes."""
    id: str
    """The same over all restarts, and of no other run: W&B's id, a tag in MLflow."""
    config: Mapping[str, Any]


class Series(Protocol):
    """One logger's account of a run."""

    def begin(self, rows: list[Row]) -> None:
        """Open it and make it hold exactly these rows; again after anything has failed."""

    def write(self, row: Row) -> None:
        """Append a row."""

    def end(self, outcome: Outcome) -> None:
        """Flush and close it."""


def subject_of(run: StageRun, config: Mapping[str, Any]) -> Subject:
    """What the loggers of a run are told; its id is made once and kept in the run folder."""
    folder = run.path / LOGGERS_DIR
    kept = folder / ID_FILE
    if not kept.exists():
        # Not the fingerprint alone: a copy of the folder, or a run made again, is another run.
        write_text(kept, f"{run.name[-FINGERPRINT_LETTERS:]}-{secrets.token_hex(4)}\n")
    return Subject(
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
    """Whether a row tells of an evaluation; else of a training step."""
    return "lr" not in row


def time_of(row: Row) -> float:
    """When the row was written, in seconds since 1970."""
    return datetime.fromisoformat(row["at"]).timestamp()


def as_yaml(config: Mapping[str, Any]) -> str:
    """The configuration for readers."""
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return text


@contextmanager
def environment(**defaults: str) -> Iterator[None]:
    """Inside, variables that are not set have these values; after it all are as before."""
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
