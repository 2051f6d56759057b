"""How a stage gets its processes: one protocol, and how their exit status is described."""

import os
import re
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from continuum.disk_errors import is_nearly_full
from continuum.errors import Status
from continuum.preflight.device_errors import fault_in_log
from continuum.preflight.host import count_oom_kills
from continuum.preflight.memory import MEMORY_REMEDY
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
USUAL_CAUSES: Mapping[int, str] = {
    signal.SIGSEGV: "a fault in native code, of a library or of the memory",
    signal.SIGBUS: "usually a full /dev/shm, or a file cut off while it was mapped",
    signal.SIGILL: "usually a library built for another processor",
    signal.SIGABRT: "by a library, which usually says why in the log",
    signal.SIGXCPU: "the limit on CPU time: `ulimit -t`",
    signal.SIGXFSZ: "the limit on the size of a file: `ulimit -f`",
}
PYTHON_WARNING = re.compile(r":\d+: \w*Warning: |^/\S+\.py:\d+: (?!.*Error)")
"""Of Python, and of Lightning, which leaves the category out."""
NOTICE = re.compile(
    r"\d+%\|.*\||\d(?:it|s)/(?:s|it)\b"  # progress bars
    r"|NCCL INFO|\[[WI]\d{3,4} \d|^[WI]\d{4} \d"  # NCCL, and records of torch
    r"|\b(?:DEBUG|INFO|WARNING)[:\]]|^Seed set to |^-{20,}$"
    r"|^distributed_backend=|^Initializing distributed: |^All distributed processes registered"
)


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
    """The signal or exit code of a process."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}{NO_RESULT}"
    return f"was killed by {signal.Signals(-exit_code).name}"


def status_of_exit(exit_code: int | None) -> Status:
    """The status of a stage whose process ended without an outcome: by a signal, or by itself."""
    return "killed" if exit_code is not None and exit_code < 0 else "crashed"


def describe_late_exit(cause: str) -> str:
    """How a process failed after it had reported the end of its stage."""
    return f"{cause.removesuffix(NO_RESULT)} during shutdown; the result is valid"


class CrashOutput:
    """What explains a crash from now on: the text appended to a log, and the kernel's counters."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._oom_kills = count_oom_kills()
        self._start = log.stat().st_size if log.exists() else 0

    def text(self) -> str:
        """All of it."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode("utf-8", errors="replace")

    def likely_cause(self, exit_code: int | None) -> str:
        """What usually causes such an end, in parentheses; empty if it says that itself."""
        if exit_code == -signal.SIGKILL:
            return f" ({self._cause_of_kill()})"
        cause = USUAL_CAUSES.get(-exit_code) if exit_code is not None else None
        return f" ({cause})" if cause else ""

    def _cause_of_kill(self) -> str:
        now = count_oom_kills()
        grown = [name for name, count in now.items() if count > self._oom_kills.get(name, count)]
        if any(grown):  # a control group has a name, the machine has none
            return (
                "by the kernel: the processes reached the memory limit of their container or job, "
                f"{max(grown, key=len)}; raise it, or {MEMORY_REMEDY}"
            )
        if grown:
            return f"probably by the kernel: the machine ran out of memory; {MEMORY_REMEDY}"
        if now:
            return "by hand or by a batch system; the kernel has killed nothing for lack of memory"
        return "by hand, or by the system when memory ran out"

    def describe(self, cause: str) -> str:
        """The cause, a known GPU error if the log has one, and the last lines of the log."""
        if is_nearly_full(self._log):
            cause += f"; the disk of {self._log.parent} is full: free some space and run again"
        text = self.text()
        if fault := fault_in_log(text):
            cause += f": {fault.message}"
        if not text.strip():
            return f"{cause}; {self._log} is empty"
        tail = without_notices(text.splitlines())[-LOG_LINES:]
        if not tail:
            return f"{cause}; {self._log} has only warnings and progress of libraries"
        listed = "\n".join(f"    {line}" for line in tail)
        return f"{cause}{LAST_LINES}{self._log}:\n{listed}"


def without_notices(lines: Iterable[str]) -> list[str]:
    """The lines of a log without what libraries print in a run that succeeds.

    These are warnings of Python, with the line of code that follows, log records below the level of
    errors, and progress bars.
    """
    kept, is_quoted = [], False
    for line in lines:
        is_warning = PYTHON_WARNING.search(line) is not None
        is_code = is_quoted and line.startswith("  ")
        is_quoted = is_warning
        if line.strip() and not (is_warning or is_code or NOTICE.search(line)):
            kept.append(line)
    return kept
