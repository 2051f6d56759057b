"""How a process that ended without a word is told of."""

import signal
from pathlib import Path

from continuum.disk import is_nearly_full

LOG_LINES = 12
"""How much of the log is shown."""


def describe_death(exit_code: int | None, log: Path) -> str:
    """The signal or exit code, what it usually means, and the log's last lines."""
    if exit_code is not None and exit_code < 0:
        cause = f"the worker was killed by {name_signal(exit_code)}"
    else:
        cause = f"the worker ended with exit code {exit_code} and no result"
    if is_nearly_full(log):
        cause += f"; the disk of {log.parent} is full: free some space and run again"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    tail = "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
    return f"{cause}; its last words in {log}:\n{tail}" if tail else f"{cause}; {log} is empty"


def name_signal(exit_code: int) -> str:
    """The signal in a negative exit code, and where it may come from."""
    name = signal.Signals(-exit_code).name
    return f"{name} (by hand, or by the system when memory ran out)" if name == "SIGKILL" else name
