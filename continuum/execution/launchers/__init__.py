"""How a stage gets its processes: one protocol, and how their ends are described."""

import signal
from pathlib import Path
from typing import Protocol

from continuum.disk_errors import is_nearly_full
from continuum.preflight.device_errors import fault_in_log
from continuum.runs.events import Outcome, Report
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord

LOG_LINES = 12
"""How much of the log is shown."""
NO_RESULT = " and no result"
NOT_STARTED = Outcome("stopped", "not started: the run is stopping")


class Launcher(Protocol):
    """Carries out stages; may be used from several threads."""

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        """Carry out the stage of a record, which lies in `run`; returns when it has ended."""

    def stop(self) -> None:
        """Ask everything under way to save and end."""

    def close(self) -> None:
        """Release what the launcher holds."""


def describe_exit(exit_code: int | None) -> str:
    """The signal or exit code of a process, and what it usually means."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}{NO_RESULT}"
    name = signal.Signals(-exit_code).name
    if name == "SIGKILL":
        return f"was killed by {name} (by hand, or by the system when memory ran out)"
    return f"was killed by {name}"


def describe_late_death(cause: str) -> str:
    """What to say of a death after the stage had ended and told so."""
    return f"{cause.removesuffix(NO_RESULT)} while leaving; the result stands"


class NewOutput:
    """What is appended to a log from now on."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._begun_at = log.stat().st_size if log.exists() else 0

    def text(self) -> str:
        """All of it."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(self._begun_at)
            return file.read().decode("utf-8", errors="replace")

    def describe_death(self, cause: str) -> str:
        """The cause, a GPU's fault if the process spoke of one, and the log's last lines."""
        if is_nearly_full(self._log):
            cause += f"; the disk of {self._log.parent} is full: free some space and run again"
        said = self.text()
        if fault := fault_in_log(said):
            cause += f": {fault.message}"
        tail = "\n".join(f"    {line}" for line in said.splitlines()[-LOG_LINES:])
        if not tail:
            return f"{cause}; {self._log} is empty"
        return f"{cause}; its last words in {self._log}:\n{tail}"
