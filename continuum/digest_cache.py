"""SHA-256 of local files, remembered by device, inode, size and times, as Git's index does.

As there, a file that was written just now is hashed again the next time: a clock ticks every few
milliseconds, and within one tick other bytes of the same length would look unchanged.
"""

import json
import os
import time
from pathlib import Path

from continuum.files import sha256_file, stamp, write_json

SETTLED_S = 2.0
"""Age of a file's last change from which its digest is remembered; FAT's clock ticks so slowly."""


def is_settled(status: os.stat_result) -> bool:
    """Whether the last change is so long ago that another would show."""
    return time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_S


class DigestCache:
    """Digests of files that have not changed since they were hashed; holds no paths."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        self._is_changed = False
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if isinstance(known, dict):  # A cache: what cannot be read is hashed again.
            self._known = known

    def sha256(self, path: Path) -> str | None:
        """The file's hash; None when there is no such file."""
        try:
            status = path.stat()
        except OSError:
            return None
        key = stamp(status)
        if key in self._known:
            return self._known[key]
        can_be_remembered = is_settled(status)
        digest = sha256_file(path)
        if can_be_remembered:
            self._known[key] = digest
            self._is_changed = True
        return digest

    def save(self) -> None:
        """Write what was learned; only the holder of the folder's lock may."""
        if self._is_changed:
            write_json(self._path, self._known)
