"""SHA-256 of local files, remembered by device, inode, size and times, as Git's index does.

As there, a file that was written just now is hashed again the next time: a clock ticks every few
milliseconds, and within one tick other bytes of the same length would look unchanged.
"""

import json
import time
from pathlib import Path

from continuum.files import sha256_file, write_json

SETTLED_S = 2.0
"""Age of a file's last change from which its digest is remembered; FAT's clock ticks so slowly."""


class DigestCache:
    """Digests of files that have not changed since they were hashed; holds no paths."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        self._is_changed = False
        try:
            self._known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}  # A cache: what cannot be read is hashed again.

    def sha256(self, path: Path) -> str | None:
        """The file's hash; None when there is no such file."""
        try:
            stat = path.stat()
        except OSError:
            return None
        times = f"{stat.st_mtime_ns}:{stat.st_ctime_ns}"
        key = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{times}"
        if key in self._known:
            return self._known[key]
        changed_at = max(stat.st_mtime, stat.st_ctime)
        is_settled = time.time() - changed_at > SETTLED_S
        digest = sha256_file(path)
        if is_settled:
            self._known[key] = digest
            self._is_changed = True
        return digest

    def save(self) -> None:
        """Write what was learned; only the holder of the folder's lock may."""
        if self._is_changed:
            write_json(self._path, self._known)
