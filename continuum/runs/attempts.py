"""The attempts to run a stage: how the last one ended, or which process runs it now."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LAST_LINES = "; last lines of "
"""Separates the cause of a crash from the output that a message quotes."""
ORPHAN = "its `continuum run` has ended; the process exits by itself"
NO_RESULT = "artifact.json is missing"


@dataclass(frozen=True)
class Owner:
    """The process that holds the lock of an experiment's folder."""

    pid: int
    host: str
    since: str = ""
    """ISO 8601 in UTC; empty for earlier releases."""

    @staticmethod
    def this_process() -> "Owner":
        """This process, which owns the folder from now on."""
        return Owner(os.getpid(), os.uname().nodename, now())

    def __str__(self) -> str:
        since = f" since {self.since[:19].replace('T', ' ')} UTC" if self.since else ""
        return f"process {self.pid} on {self.host}{since}" if self.pid else "another process"


UNKNOWN_OWNER = Owner(0, "")
"""A process that has not written who it is."""


@dataclass(frozen=True)
class AttemptState:
    """The state of an unfinished run."""

    state: str
    """`running`, `interrupted` (it was killed with its `continuum run`), or the status that its
    last attempt ended with."""
    how: str = ""
    """The process that runs it, or the first line of the error."""

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def __str__(self) -> str:
        return f"{self.state}: {self.how}" if self.how else self.state


def now() -> str:
    """The time as records have it: ISO 8601 in UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def state_of(
    attempts: Sequence[Mapping[str, Any]], owner: Owner | None, *, is_running: bool
) -> AttemptState:
    """The state of an unfinished run.

    Args:
        attempts: The lines of `attempts.jsonl`.
        owner: The process that holds the experiment's folder, if any.
        is_running: Whether a worker holds the lock of the run. It does so only once it has
            started, which takes several processes some time.
    """
    ends = [line for line in attempts if line["event"] in ("started", "ended")]
    last = ends[-1] if ends else None
    if last is not None and last["event"] == "ended":
        is_lost = last["status"] == "done"
        how = NO_RESULT if is_lost else first_line(str(last.get("message") or ""))
        return AttemptState("damaged" if is_lost else str(last["status"]), how)
    if owner is not None and (is_running or _has_started(owner, last)):
        return AttemptState("running", str(owner))
    return AttemptState("running", ORPHAN) if is_running else AttemptState("interrupted")


def first_line(message: str) -> str:
    """The first line of an error, without the output that it quotes."""
    return message.partition("\n")[0].partition(LAST_LINES)[0]


def _has_started(owner: Owner, started: Mapping[str, Any] | None) -> bool:
    """Whether the owner has started the attempt: an earlier owner's is over."""
    if started is None or not owner.since:
        return started is None
    return str(started.get("at", "")) >= owner.since
