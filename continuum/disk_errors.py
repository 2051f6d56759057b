"""Recognize errors of a full, broken or read-only disk, and say what to do.

Any write may fail: of a record, a log, a library's own file. Such an error is recognized wherever
it surfaces, even wrapped by a library, so that it is not reported as a bug.
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
"""With less than a few blocks free, an error that names no cause is probably the disk's."""


def describe_disk_error(error: BaseException, place: Path) -> str | None:
    """What failed on the disk, where, and what to do; None when `error` has another cause.

    Args:
        place: The path that was being written, for errors that name no file.
    """
    cause = find_disk_error(error, place)
    if cause is None:
        return None
    named = cause.filename2 or cause.filename
    path = Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else place
    existing = _existing(path).resolve()
    disk = next(p for p in (existing, *existing.parents) if p.is_mount())
    if cause.errno in FULL:
        remedy = f"free some space on the disk at {disk} and run again"
    elif cause.errno in REFUSED:
        return f"{path}: {cause.strerror}; make it writable (disk at {disk}) and run again"
    else:
        remedy = f"check the disk at {disk} and run again"
    return f"{path}: {cause.strerror}; {remedy}; completed results are intact"


def describe_or_raise(error: OSError, place: Path) -> str:
    """As `describe_disk_error`; an error with another cause is a bug and is raised again."""
    described = describe_disk_error(error, place)
    if described is None:
        raise error
    return described


def find_disk_error(error: BaseException, place: Path) -> OSError | None:
    """The disk's own error behind `error`, if there is one."""
    for cause in causes_of(error):
        if isinstance(cause, OSError) and _is_disk_error(cause):
            return cause
    if not isinstance(error, OSError) and is_nearly_full(place):
        # torch's own file writer reports a failed write without its cause.
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
    return None


def is_nearly_full(place: Path) -> bool:
    """Whether the disk of `place` has no room for even a small file."""
    try:
        return shutil.disk_usage(_existing(place)).free < NEARLY_FULL_BYTES
    except OSError:
        return False


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts, and the errors of other processes that it carries."""
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


def _is_disk_error(error: OSError) -> bool:
    if error.errno in FULL | BROKEN | {errno.EROFS}:
        return True
    # Sockets and signals are refused too; only a file has a name.
    return error.errno in REFUSED and error.filename is not None


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.exists())
