"""A file that the user names for a command to write: whole or absent, like all that is recorded.

A link stays one, and what it points at is written. What is no file (a device, a pipe) has no place
that a rename could take; it is written to as it is.
"""

import stat
from pathlib import Path

from continuum.errors import PreflightError, UsageError
from continuum.runs.files import write_text


def refuse_folder(path: Path) -> None:
    """Stop before anything is done for a command that has nowhere to write.

    Raises:
        UsageError: it is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the file to write in it")


def write_output(path: Path, text: str) -> None:
    """Write a text there.

    Raises:
        UsageError: it is a folder.
        PreflightError: a device or a pipe does not take it.
    """
    refuse_folder(path)
    if _is_replaceable(path):
        write_text(path.resolve(), text)
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise PreflightError(f"{path}: {error.strerror}") from error


def _is_replaceable(path: Path) -> bool:
    """Whether a file is there, or nothing yet."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True
