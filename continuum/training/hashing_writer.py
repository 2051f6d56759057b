"""A file that is hashed while it is written, and that the disk begins with at once."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO

PARALLEL_BYTES = 1 << 18
"""Blocks from here on are hashed in a thread while they are written; hashing sets Python free."""
FLUSHED_BYTES = 1 << 22
"""As many are handed to the disk at a time."""


class HashingWriter:
    """A binary file that hashes what is written to it; usable as `torch.save`'s target.

    A context manager: its end lets the thread go that hashes large blocks. The file stays open.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file`, from its beginning."""
        self._file = file
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self.size_bytes = 0

    def __enter__(self) -> "HashingWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`; return its length in bytes."""
        size = memoryview(data).nbytes
        if size < PARALLEL_BYTES:
            self._hash.update(data)
            self._file.write(data)
        else:
            self._write_beside_hashing(memoryview(data).cast("B"))
        self.size_bytes += size
        return size

    def _write_beside_hashing(self, data: memoryview) -> None:
        hashing = self._thread.submit(self._hash.update, data)
        try:
            for start in range(0, data.nbytes, FLUSHED_BYTES):
                piece = data[start : start + FLUSHED_BYTES]
                self._file.write(piece)
                _begin_flushing(self._file, self.size_bytes + start, piece.nbytes)
        finally:
            hashing.result()  # torch's `data` is gone when this returns

    def flush(self) -> None:
        """Pass the buffered bytes to the operating system."""
        self._file.flush()

    @property
    def sha256(self) -> str:
        """The hash of everything written so far, as hexadecimal."""
        return self._hash.hexdigest()


def _begin_flushing(file: BinaryIO, start: int, num_bytes: int) -> None:
    """Have the disk begin with bytes just written, so that it works while the next are hashed.

    Linux starts to write dirty pages when told that they will not be needed, and keeps them.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # A hint; no pipe takes it.
            os.posix_fadvise(file.fileno(), start, num_bytes, os.POSIX_FADV_DONTNEED)
