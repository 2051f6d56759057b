"""Write a file that the user names, atomically.

A link is followed. A device or a pipe cannot be replaced by a rename, so it is written to directly.
"""

import stat
from pathlib import Path

from continuum.errors import PreflightError, UsageError
from continuum.runs.files import write_text


def refuse_folder(path: Path) -> None:
    """Refuse an output path that is a folder, before the command does its work.

    Raises:
        UsageError: it is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file")


def write_output(path: Path, text: str) -> None:
    """Write text to a file.

    Raises:
        UsageError: the path is a folder.
        PreflightError: writing to a device or a pipe fails.
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
    """Whether the path is a regular file or does not exist."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True
