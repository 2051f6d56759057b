"""Put a finished folder in its place, so that at every moment an old or the new one is there.

Where a folder of the name is there already, the kernel exchanges the two (Linux, `renameat2`). A
file system that cannot needs two renames; what a kill between them leaves is put back by the next
who works there.
"""

import errno
import os
import sys
from pathlib import Path

from continuum.runs.files import fsync_folder, remove_tree

AT_FDCWD = -100
RENAME_EXCHANGE = 2
CANNOT_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY})
"""Errors of a kernel or a file system that does not know the exchange."""
REPLACED = ".replaced"
"""Suffix of a folder that gave way and whose successor is not in place yet."""


def put_in_place(finished: Path, place: Path) -> None:
    """Rename a folder, flushed to the disk, to its place beside it; what lay there is removed."""
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


def put_back_replaced(folder: Path) -> None:
    """Give back their names to the folders below one whose successors did not come."""
    for replaced in folder.glob(f".*{REPLACED}"):
        place = folder / replaced.name[1 : -len(REPLACED)]
        if place.exists():
            remove_tree(replaced)
        else:
            replaced.replace(place)
            fsync_folder(folder)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places at once; False where that is not known."""
    import ctypes  # of no use where nothing runs

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
