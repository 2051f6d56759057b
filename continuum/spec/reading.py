"""The bytes of a file, whatever lies there: no pipe is waited for, no device read for ever."""

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 2 << 20
"""Of a file. The largest specs that people write have a hundredth of it."""


def read_bytes(path: Path) -> bytes:
    """A file's bytes, but of a larger one than is allowed only the beginning, a byte too long.

    Raises:
        OSError: it cannot be read, or is no ordinary file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor has no path
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not an ordinary file")
        raw: bytes | None = file.read(MAX_BYTES + 1)
    if raw is None:  # one of /proc that has nothing to say yet
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return raw
