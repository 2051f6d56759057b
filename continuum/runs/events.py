"""Events of a run, one type each; `str()` is the line that people read.

A stage's process sends events to the run: through a pipe, or as JSON lines of a file.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from continuum.errors import ContinuumError, Status
from continuum.runs.redaction import without_secrets


@dataclass(frozen=True)
class Event:
    """Something that happened; an empty text is not printed."""

    def __str__(self) -> str:
        return ""

    def encode(self) -> bytes:
        """Serialize the event as a line of JSON."""
        return json.dumps({"event": type(self).__name__, **asdict(self)}).encode()

    @staticmethod
    def decode(line: bytes) -> "Event":
        """Parse a line; raises ValueError if it is cut off."""
        fields: dict[str, Any] = json.loads(line)
        return _TYPES[fields.pop("event")](**fields)


Report = Callable[[Event], None]
"""Receives the events of a stage."""


@dataclass(frozen=True)
class Stopping(Event):
    """The run was asked to stop."""

    def __str__(self) -> str:
        return "stopping: saving at the next step boundary (interrupt again to stop at once)"


@dataclass(frozen=True)
class Started(Event):
    attempt: int

    def __str__(self) -> str:
        return "started" if self.attempt == 1 else f"started, attempt {self.attempt}"


@dataclass(frozen=True)
class Ready(Event):
    """A stage that trains is set up; from now on it has something to save."""


@dataclass(frozen=True)
class Outcome(Event):
    """How a stage ended, or one of its processes."""

    status: Status
    message: str = ""
    rank: int = 0

    def __post_init__(self) -> None:
        """Remove secrets that an error of a library repeats."""
        object.__setattr__(self, "message", without_secrets(self.message))

    @staticmethod
    def of(error: ContinuumError) -> "Outcome":
        """The outcome of a stage that raised this error."""
        return Outcome(error.stage_status, str(error))

    @property
    def has_succeeded(self) -> bool:
        """Whether the artifact of the stage is there."""
        return self.status in ("done", "reused")

    def __str__(self) -> str:
        return f"{self.status}: {self.message}" if self.message else self.status


@dataclass(frozen=True)
class Lost(Event):
    """One of several processes died without an outcome."""

    rank: int
    exit_code: int
    message: str


@dataclass(frozen=True)
class Warned(Event):
    message: str

    def __post_init__(self) -> None:
        """Remove secrets that a library repeats."""
        object.__setattr__(self, "message", without_secrets(self.message))

    def __str__(self) -> str:
        return f"warning: {self.message}"


@dataclass(frozen=True)
class Noted(Event):
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Progressed(Event):
    done: int
    total: int | None
    """None if unknown."""
    unit: str = "bytes"

    def __str__(self) -> str:
        total = f" of {self.total:,}" if self.total else ""
        return f"{self.done:,}{total} {self.unit}"


@dataclass(frozen=True)
class Trained(Event):
    """An optimizer step was taken and logged."""

    step: int
    num_steps: int
    row: Mapping[str, Any]

    def __str__(self) -> str:
        row = self.row
        eta = timedelta(seconds=round(row["eta_s"]))
        loss = "skipped" if row["loss"] is None else f"loss {row['loss']:.4f}"
        mfu = f"  MFU {row['mfu']:.1%}" if "mfu" in row else ""
        return (
            f"step {self.step:,}/{self.num_steps:,}  {loss}  lr {row['lr']:.2e}  "
            f"{row['tokens_per_s']:,.0f} tokens/s{mfu}  {eta} left"
        )


@dataclass(frozen=True)
class Evaluated(Event):
    step: int
    losses: Mapping[str, float]

    def __str__(self) -> str:
        losses = "  ".join(f"{name} {loss:.4f}" for name, loss in self.losses.items())
        return f"step {self.step:,}  {losses}"


@dataclass(frozen=True)
class Saved(Event):
    step: int

    def __str__(self) -> str:
        return f"saved step {self.step:,}"


@dataclass(frozen=True)
class Recovered(Event):
    """A stage resumes from a checkpoint of an earlier attempt."""

    step: int
    exact: bool

    def __str__(self) -> str:
        return f"resuming from step {self.step:,}"


MIN_PROGRESS_PAUSE_S = 0.25


class ByteProgress:
    """Counts the bytes of one file after another and reports them a few times a second."""

    def __init__(self, report: Report, *, num_files: int, total: int | None) -> None:
        self._report = report
        self._num_files = num_files
        self._total = total
        self._done_before = 0
        self._done = 0
        self._reported_at = float("-inf")

    def next_file(self) -> None:
        """Start counting another file."""
        self._done_before = self._done

    def update(self, done: int, total: int | None = None) -> None:
        """Set the bytes done of the current file; `total` is its size, if known."""
        self._done = self._done_before + done
        now = time.monotonic()
        if now - self._reported_at >= MIN_PROGRESS_PAUSE_S:
            self._reported_at = now
            self._send(total if self._total is None and self._num_files == 1 else self._total)

    def add(self, num_bytes: int) -> None:
        """Add bytes to the current file."""
        self.update(self._done - self._done_before + num_bytes)

    def finish(self) -> None:
        """Report all bytes as done."""
        self._send(self._done)

    def _send(self, total: int | None) -> None:
        self._report(Progressed(self._done, total))


_TYPES: Mapping[str, type[Event]] = {cls.__name__: cls for cls in Event.__subclasses__()}
