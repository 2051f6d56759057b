"""Replace a folder atomically: at every moment the old or the new one is in place.

The kernel exchanges an existing folder with the new one (Linux, `renameat2`). Where the file system
does not support that, two renames do; the next attempt restores the folder after a kill between
them.
"""

import errno
import os
import sys
from pathlib import Path

from continuum.runs.files import fsync_folder, remove_tree

AT_FDCWD = -100
RENAME_EXCHANGE = 2
CANNOT_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY})
"""Errors of a kernel or a file system without the exchange."""
REPLACED = ".replaced"
"""Suffix of a replaced folder whose successor is not in place yet."""


def put_in_place(finished: Path, place: Path) -> None:
    """Rename a folder that is flushed to the disk to its place, and remove the old one there."""
    if not place.exists():
        finished.replace(place)
        fsync_folder(place.parent)
    elif _exchange(finished, place):
        fsync_folder(place.parent)
        remove_tree(finished)
    else:
        replaced = place.with_name(f".{place.name}{REPLACED}")
        remove_tree(replaced)
        place.replace(replaced)
        finished.replace(place)
        fsync_folder(place.parent)
        remove_tree(replaced)


def restore_replaced(folder: Path) -> None:
    """Restore folders that were replaced but whose successors are not in place."""
    for replaced in folder.glob(f".*{REPLACED}"):
        place = folder / replaced.name[1 : -len(REPLACED)]
        if place.exists():
            remove_tree(replaced)
        else:
            replaced.replace(place)
            fsync_folder(folder)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically; return False if that is not supported."""
    import ctypes  # not needed by commands that run nothing

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if sys.platform != "linux" or rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
