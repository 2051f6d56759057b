"""How a process that ended without a word is told of."""

import signal
from pathlib import Path

from continuum.disk import is_nearly_full

LOG_LINES = 12
"""How much of the log is shown."""
NO_RESULT = " and no result"


def name_death(exit_code: int | None) -> str:
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


def describe_death(cause: str, log: Path) -> str:
    """The cause, and the log's last lines."""
    if is_nearly_full(log):
        cause += f"; the disk of {log.parent} is full: free some space and run again"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    tail = "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
    return f"{cause}; its last words in {log}:\n{tail}" if tail else f"{cause}; {log} is empty"
