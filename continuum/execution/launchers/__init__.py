"""How a stage gets its processes: one protocol, and how their exit status is described."""

import os
import signal
from pathlib import Path
from typing import Protocol

from continuum.disk_errors import is_nearly_full
from continuum.preflight.device_errors import fault_in_log
from continuum.runs.attempts import LAST_LINES
from continuum.runs.events import Outcome, Report
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord

LOG_LINES = 12
NO_RESULT = " and no result"
NOT_STARTED = Outcome("stopped", "not started: the run is stopping")
KILLED_IN_STARTUP = Outcome("stopped", "killed before its first step, with nothing to save")
PATIENCE_S = 5.0
"""How long a stage that has nothing to save may take to stop."""
OF_OTHER_LAUNCHERS = frozenset(
    {
        *("RANK", "LOCAL_RANK", "GLOBAL_RANK", "GROUP_RANK", "NODE_RANK", "ROLE_RANK", "ROLE_NAME"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "NNODES"),
        *("MASTER_ADDR", "MASTER_PORT"),
    }
)
PREFIXES_OF_OTHER_LAUNCHERS = ("LT_", "PL_", "TORCHELASTIC_")


class Launcher(Protocol):
    """Runs stages; may be used from several threads."""

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        """Run the stage of a record in `run`; return when it has ended."""

    def stop(self) -> None:
        """Ask all running stages to save and stop."""

    def close(self) -> None:
        """Kill all running stages and release resources."""


def forget_other_launchers() -> None:
    """Remove the variables by which `fabric run`, Lightning or torchrun describe other processes.

    Fabric would take its device, precision and number of processes from them, and wait for peers.
    """
    for name in list(os.environ):
        if name in OF_OTHER_LAUNCHERS or name.startswith(PREFIXES_OF_OTHER_LAUNCHERS):
            del os.environ[name]


def describe_exit_status(exit_code: int | None) -> str:
    """The signal or exit code of a process, and what usually causes it."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}{NO_RESULT}"
    name = signal.Signals(-exit_code).name
    if name == "SIGKILL":
        return f"was killed by {name} (by hand, or by the system when memory ran out)"
    return f"was killed by {name}"


def describe_late_exit(cause: str) -> str:
    """How a process failed after it had reported the end of its stage."""
    return f"{cause.removesuffix(NO_RESULT)} during shutdown; the result is valid"


class CrashOutput:
    """The text appended to a log from now on, to explain a crash."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._start = log.stat().st_size if log.exists() else 0

    def text(self) -> str:
        """All of it."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode("utf-8", errors="replace")

    def describe(self, cause: str) -> str:
        """The cause, a known GPU error if the log has one, and the last lines of the log."""
        if is_nearly_full(self._log):
            cause += f"; the disk of {self._log.parent} is full: free some space and run again"
        text = self.text()
        if fault := fault_in_log(text):
            cause += f": {fault.message}"
        tail = "\n".join(f"    {line}" for line in text.splitlines()[-LOG_LINES:])
        if not tail:
            return f"{cause}; {self._log} is empty"
        return f"{cause}{LAST_LINES}{self._log}:\n{tail}"
