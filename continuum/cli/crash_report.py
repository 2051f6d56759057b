"""What a user is told when continuum itself is at fault."""

import os
import platform
import sys
import tempfile
import traceback

from continuum import __version__


def report_bug(error: Exception, *, shows_traceback: bool) -> None:
    """Say on stderr that this is a bug, and keep the traceback: there, or in a file."""
    whole = "".join(traceback.format_exception(error))
    line = traceback.format_exception_only(error)[-1].strip()
    kept = None if shows_traceback else _keep(whole)
    if kept is None:
        print(whole, file=sys.stderr)
    print(f"continuum has a bug: {line}", file=sys.stderr)
    where = "the traceback above" if kept is None else kept
    print(f"  please report it, with the command and {where}", file=sys.stderr)


def _keep(whole: str) -> str | None:
    """The file that holds the traceback; None when none can be written."""
    about = f"continuum {__version__}, Python {platform.python_version()}, {platform.platform()}"
    command = " ".join(sys.argv)
    try:
        handle, path = tempfile.mkstemp(prefix="continuum-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{about}\n{command}\n\n{whole}")
    except OSError:
        return None
    return path
