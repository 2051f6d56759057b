"""A small disk of its own, to be filled to the block and made read-only: a real tmpfs."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BLOCK_BYTES = os.sysconf("SC_PAGE_SIZE")
"""What tmpfs gives to a file at a time."""


class SmallDisk:
    """A mounted file system. The ballast takes what the test does not want to be free."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, leaving_blocks: int) -> None:
        """Leave so many blocks free, or fewer where others write at the same time."""
        with self._ballast.open("wb") as file:
            while (wanted := self._free_bytes() - leaving_blocks * BLOCK_BYTES) > 0:
                with suppress(OSError):  # someone was faster
                    os.posix_fallocate(file.fileno(), 0, wanted)
                    return

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()

    def _free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def make(self, access: str) -> None:
        """Mount it anew, `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{access}", self.path], check=True)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk]:
    """A disk mounted at `path`; skips the test where this user may not mount one."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", path], check=True)
