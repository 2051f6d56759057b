"""Locks by flock(2), which the kernel gives back when their holder dies, and where they hold.

A lock is only as good as the file system it lies on. Some have none; some give one that holds among
the processes of one machine, though other machines see the same files: then two could write a
folder at once, and neither would notice.
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
"""Errors of flock(2) on a file system without locks, or whose lock server does not answer."""
LOCAL_OPTIONS = {
    "nfs": {"nolock", "local_lock=flock", "local_lock=all"},
    "nfs4": {"nolock", "local_lock=flock", "local_lock=all"},
    "lustre": {"localflock"},
    "cifs": {"nobrl"},
    "smb3": {"nobrl"},
    "gfs2": {"localflocks"},
    "ocfs2": {"localflocks"},
}
"""Mount options by which locks hold on one machine only, by the type of the file system."""
LOCAL_TYPES = frozenset(
    f"fuse.{name}"
    for name in ("sshfs", "s3fs", "mount-s3", "rclone", "gcsfuse", "goofys", "blobfuse2", "davfs")
)
"""Shared file systems whose locks the kernel of each machine keeps for itself."""


ADVICE = (
    "so two could write here at once; see to it that none does and give --unsafe-locks, "
    "or work on another file system"
)


class NoLocksError(PreflightError):
    """The file system does not know flock(2)."""


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
    """Hold a lock that the kernel gives back when its holder dies; whether it could be had.

    Args:
        is_needed: False goes on without one where the file system has none.

    Raises:
        NoLocksError: it has none, and one is needed.
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

    Looks read-only and shared: that needs no permission to write and hinders no other look.

    Raises:
        NoLocksError: the file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, path, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def weakness_of_locks(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Why a lock below a folder would not keep other machines out; None where it does.

    Args:
        mounts: What is mounted, as Linux lists it; elsewhere there is no such file, and no doubt.
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
        how = "which has no others"
    elif mount.kind == "beegfs" and not _has_global_locks(mount):
        how = "without tuneUseGlobalFileLocks = true in its configuration"
    else:
        return None
    return f"the locks of {mount.source} ({mount.kind}, {how}) hold on one machine only"


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """The file system on which a path lies, of those in the text of `/proc/self/mountinfo`."""
    mounts = (mount for line in mountinfo.splitlines() if (mount := _parsed(line)) is not None)
    above = [mount for mount in mounts if path.is_relative_to(mount.place)]
    # Of two at one place, the later one hides the other.
    return max(reversed(above), key=lambda mount: len(mount.place), default=None)


def _parsed(line: str) -> Mount | None:
    """One line, see proc_pid_mountinfo(5): the mount, ` - `, and what is mounted."""
    head, _, tail = line.partition(" - ")
    own, other = head.split(" "), tail.split(" ")
    if len(own) < 6 or len(other) < 3:
        return None
    options = frozenset((*own[5].split(","), *other[2].split(",")))
    return Mount(_unescaped(own[4]), other[0], _unescaped(other[1]), options)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _has_global_locks(mount: Mount) -> bool:
    """Whether the configuration that a BeeGFS was mounted with asks for locks among machines."""
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
        message = f"{path.parent}: the file system has no locks (flock says {name}), {ADVICE}"
        raise NoLocksError(message) from None
    return True
