"""Locks by flock(2), which the kernel releases when their holder dies, and their scope.

A lock is only as good as its file system. Some have none; some have locks that are local to a
machine although other machines see the same files: then two processes could write a folder at once,
and neither would notice.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from continuum.errors import PreflightError

POLL_S = 0.05
MOUNTS = Path("/proc/self/mountinfo")
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of flock(2) on a file system without locks, or without an answer of its lock server."""
LOCAL_OPTIONS = {
    "nfs": {"nolock", "local_lock=flock", "local_lock=all"},
    "nfs4": {"nolock", "local_lock=flock", "local_lock=all"},
    "lustre": {"localflock"},
    "cifs": {"nobrl"},
    "smb3": {"nobrl"},
    "gfs2": {"localflocks"},
    "ocfs2": {"localflocks"},
}
"""Mount options that make locks local to a machine, by file system type."""
LOCAL_TYPES = frozenset(
    f"fuse.{name}"
    for name in ("sshfs", "s3fs", "mount-s3", "rclone", "gcsfuse", "goofys", "blobfuse2", "davfs")
)
"""Shared file systems whose locks are always local to a machine."""

ADVICE = (
    "so two processes could write here at once; use another file system, or make sure that only "
    "one writes and pass --unsafe-locks"
)


class NoLocksError(PreflightError):
    """The file system does not support flock(2)."""


@dataclass(frozen=True)
class Mount:
    """A mounted file system."""

    place: str
    kind: str
    """`ext4`, `nfs4`, `fuse.sshfs` …"""
    source: str
    options: frozenset[str]


@contextmanager
def locked(path: Path, timeout_s: float = 0.0, *, is_needed: bool = True) -> Iterator[bool]:
    """Hold a lock that the kernel releases when its holder dies; yield whether it was acquired.

    Args:
        is_needed: False continues without a lock where the file system has none.

    Raises:
        NoLocksError: the file system has no locks, and one is needed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            is_ours = _acquire(descriptor, path, time.monotonic() + timeout_s)
        except NoLocksError:
            if is_needed:
                raise
            is_ours = True
        yield is_ours
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file.

    Tries a shared lock read-only: that needs no permission to write and blocks no other check.

    Raises:
        NoLocksError: the file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _try(descriptor, path, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def weakness_of_locks(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Why a lock below a folder would not exclude other machines; None if it would.

    Args:
        mounts: The list of mounts on Linux; without it, locks are assumed to be global.
    """
    try:
        mount = mount_of(
            path.resolve(), mounts.read_text(encoding="utf-8", errors="surrogateescape")
        )
    except OSError:
        return None
    if mount is None:
        return None
    chosen = sorted(mount.options & LOCAL_OPTIONS.get(mount.kind, set()))
    if chosen:
        how = f"mounted with {', '.join(chosen)}"
    elif mount.kind in LOCAL_TYPES:
        how = "always"
    elif mount.kind == "beegfs" and not _has_global_locks(mount):
        how = "without tuneUseGlobalFileLocks = true in its configuration"
    else:
        return None
    return f"locks on {mount.source} ({mount.kind}, {how}) are local to this machine"


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """The file system of a path, from the text of `/proc/self/mountinfo`."""
    mounts = (mount for line in mountinfo.splitlines() if (mount := _parse(line)) is not None)
    above = [mount for mount in mounts if path.is_relative_to(mount.place)]
    # Of two mounts at one place, the later one hides the other.
    return max(reversed(above), key=lambda mount: len(mount.place), default=None)


def _parse(line: str) -> Mount | None:
    """Parse a line, see proc_pid_mountinfo(5): the mount, ` - `, and what is mounted."""
    head, _, tail = line.partition(" - ")
    own, other = head.split(" "), tail.split(" ")
    if len(own) < 6 or len(other) < 3:
        return None
    options = frozenset((*own[5].split(","), *other[2].split(",")))
    return Mount(_unescaped(own[4]), other[0], _unescaped(other[1]), options)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _has_global_locks(mount: Mount) -> bool:
    """Whether the configuration of a BeeGFS mount enables global locks."""
    named = (it.removeprefix("cfgFile=") for it in mount.options if it.startswith("cfgFile="))
    try:
        text = Path(next(named, os.devnull)).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"^\s*tuneUseGlobalFileLocks\s*=\s*true\s*$", text, re.M) is not None


def _acquire(descriptor: int, path: Path, end: float) -> bool:
    while not _try(descriptor, path, fcntl.LOCK_EX):
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_S)
    return True


def _try(descriptor: int, path: Path, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        name = errno.errorcode.get(error.errno, str(error.errno))
        message = f"{path.parent}: the file system has no locks (flock: {name}), {ADVICE}"
        raise NoLocksError(message) from None
    return True
