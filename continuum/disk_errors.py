"""Recognize errors of a full, broken or read-only disk, and say what to do.

Any write may fail: of a record, a log, a library's own file. Such an error is recognized wherever
it surfaces, even wrapped by a library, so that it is not reported as a bug. Libraries in Rust
give its number in their text; torch's writer gives no reason, so one is looked for.
"""

import errno
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""There is no room: on the disk, in the user's quota, or below a limit on the size of a file."""
BROKEN = frozenset({errno.EIO, errno.ESTALE})
DETACHED = frozenset({errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO})
"""The server or device of a mount is gone. Sockets know some of these, too."""
REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
NEARLY_FULL_BYTES = 4 * 4096
"""With less than a few blocks free, an error that names no cause is probably the disk's."""
PROBE_BYTES = 1 << 20
_RUST_ERROR = re.compile(r"\(os error (\d+)\)|\bOs \{ code: (\d+)")
_TORCH_WRITE_FAILED = re.compile(
    r"PytorchStreamWriter failed|unexpected pos \d+ vs \d+|iostream error|file write failed"
)


def describe_disk_error(error: BaseException, place: Path) -> str | None:
    """What failed on the disk, where, and what to do; None when `error` has another cause.

    Args:
        place: The path that was being written, for errors that name no file.
    """
    cause = find_disk_error(error, place)
    if cause is None:
        return None
    path = _path_of(cause, place)
    how = f"{path}: {cause.strerror}; {disk_remedy(cause, place)} and run again"
    return how if cause.errno in REFUSED else f"{how}; completed results are intact"


def disk_remedy(error: OSError, place: Path) -> str:
    """What to do about an error of the disk before running again.

    Args:
        place: As for `describe_disk_error`.
    """
    existing = _existing(_path_of(error, place)).resolve()
    disk = next(p for p in (existing, *existing.parents) if os.path.ismount(p))
    if error.errno == errno.EDQUOT:
        return f"free some space on the disk at {disk}, or have your quota there raised,"
    if error.errno == errno.EFBIG:
        limit = _file_size_limit()
        what = f"of {limit:,} bytes (`ulimit -f`)" if limit else f"of the disk at {disk}"
        return f"raise the limit {what} on the size of a file"
    if error.errno in FULL:
        if _has_no_inodes(existing):
            return f"remove some files from the disk at {disk}, which has no inodes left (`df -i`),"
        return f"free some space on the disk at {disk}"
    if error.errno == errno.ENOTDIR:
        return "move away the file where a folder should be"
    if error.errno == errno.EACCES:
        return "change its permissions or its owner,"
    if error.errno in REFUSED:
        return f"make it writable (disk at {disk})"
    return f"check the disk at {disk}"


def describe_or_raise(error: OSError, place: Path) -> str:
    """As `describe_disk_error`; an error with another cause is a bug and is raised again."""
    described = describe_disk_error(error, place)
    if described is None:
        raise error
    return described


def find_disk_error(error: BaseException, place: Path) -> OSError | None:
    """The disk's own error behind `error`, if there is one."""
    for cause in causes_of(error):
        if isinstance(cause, OSError):
            if _is_disk_error(cause):
                return cause
        elif number := _RUST_ERROR.search(str(cause)):
            known = _error_at(place, int(number[1] or number[2]))
            if _is_disk_error(known):
                return known
    if isinstance(error, OSError):
        return None
    if is_nearly_full(place):
        return _error_at(place, errno.ENOSPC)
    if any(_TORCH_WRITE_FAILED.search(str(cause)) for cause in causes_of(error)):
        return _reason_of_failed_write(place)
    return None


def _reason_of_failed_write(place: Path) -> OSError:
    """Why a library could not write to a place, from trying to and from the limits."""
    try:
        folder = next(p for p in (place, *place.absolute().parents) if p.is_dir())
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(bytes(PROBE_BYTES))
            os.fsync(probe.fileno())
    except OSError as error:
        if _is_disk_error(error):
            return _error_at(place, error.errno or errno.EIO)
    if _file_size_limit() is not None:
        return _error_at(place, errno.EFBIG)
    return OSError(errno.EIO, "a write failed without a reason", str(place))


def _error_at(place: Path, number: int) -> OSError:
    return OSError(number, os.strerror(number), str(place))


def _path_of(error: OSError, place: Path) -> Path:
    """The file that an error names, or the place."""
    named = error.filename2 or error.filename
    return Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else place


def _file_size_limit() -> int | None:
    """The bytes that a file may have in this process (`ulimit -f`); None if there is no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else limit


def _has_no_inodes(path: Path) -> bool:
    found = os.statvfs(path)
    return found.f_files > 0 and found.f_favail == 0


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
    return error.errno in REFUSED | DETACHED and error.filename is not None


def _existing(path: Path) -> Path:
    # `Path.exists` would raise where a folder cannot be searched or a mount is detached.
    return next(p for p in (path, *path.absolute().parents) if os.path.exists(p))  # noqa: PTH110
