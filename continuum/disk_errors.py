"""A full or refusing disk, in words the user can act on.

Any write may fail: of a record, a log, a library's own file. Such an error is recognised wherever
it arrives, also where a library has wrapped it, so that it is told as what it is and not as a bug.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
BROKEN = frozenset({errno.EIO, errno.ESTALE})
REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
NEARLY_FULL_BYTES = 4 * 4096
"""With less than a few blocks free, a failure that names no cause is probably the disk's."""


def describe_disk_error(error: BaseException, place: Path) -> str | None:
    """What the disk did, where, and what to do; None when `error` has another cause.

    Args:
        place: Where was being written, for errors that name no file.
    """
    cause = find_disk_error(error, place)
    if cause is None:
        return None
    named = cause.filename2 or cause.filename
    path = Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else place
    return f"{path}: {cause.strerror}; {_remedy(cause.errno, path)}"


def find_disk_error(error: BaseException, place: Path) -> OSError | None:
    """The disk's own error behind `error`, if there is one."""
    for cause in causes_of(error):
        if isinstance(cause, OSError) and _is_of_the_disk(cause):
            return cause
    if not isinstance(error, OSError) and is_nearly_full(place):
        # torch's own file writer tells of a failed write, but not why it failed.
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
    return None


def describe_or_raise(error: OSError, place: Path) -> str:
    """The same of an error of the system; one with another cause is a bug and goes on its way."""
    words = describe_disk_error(error, place)
    if words is None:
        raise error
    return words


def is_nearly_full(place: Path) -> bool:
    """Whether the disk that holds `place` has no room for even a small file."""
    try:
        return shutil.disk_usage(_existing(place)).free < NEARLY_FULL_BYTES
    except OSError:
        return False


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and what other processes tell of."""
    waiting, seen = [error], set()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        context = None if cause.__suppress_context__ else cause.__context__
        waiting += [c for c in (cause.__cause__, context) if c is not None]
        # torch.distributed.checkpoint: an exception and its traceback for each process.
        failures = getattr(cause, "failures", None)
        if isinstance(failures, dict):
            waiting += [f[0] for f in failures.values() if isinstance(f, tuple)]


def _is_of_the_disk(error: OSError) -> bool:
    if error.errno in FULL | BROKEN | {errno.EROFS}:
        return True
    # Sockets and signals are refused too; only a file has a name.
    return error.errno in REFUSED and error.filename is not None


def _remedy(number: int | None, path: Path) -> str:
    disk = _mount_of(path)
    if number in FULL:
        return f"free some space on the disk at {disk} and run again; what is finished is whole"
    if number in REFUSED:
        return f"make it writable (it lies on the disk at {disk}) and run again"
    return f"check the disk at {disk} and run again; what is finished is whole"


def _mount_of(path: Path) -> Path:
    place = _existing(path).resolve()
    return next(p for p in (place, *place.parents) if p.is_mount())


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.exists())
