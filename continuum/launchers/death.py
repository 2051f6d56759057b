"""How a process that ended without a word is told of."""

import signal
from pathlib import Path

LOG_LINES = 12
"""How much of the log is shown."""


def describe_death(exit_code: int | None, log: Path) -> str:
    """The signal or exit code, what it usually means, and the log's last lines."""
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = f"the worker was killed by {name}"
        if name == "SIGKILL":
            cause += " (by hand, or by the system when memory ran out)"
    else:
        cause = f"the worker ended with exit code {exit_code} and no result"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    tail = "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
    return f"{cause}; its last words in {log}:\n{tail}" if tail else f"{cause}; {log} is empty"
