"""SHA-256 of local files, remembered by device, inode, size and time, as Git's index does."""

import json
from pathlib import Path

from continuum.files import sha256_file, write_json


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
        key = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in self._known:
            self._known[key] = sha256_file(path)
            self._is_changed = True
        return self._known[key]

    def save(self) -> None:
        """Write what was learned; only the holder of the folder's lock may."""
        if self._is_changed:
            write_json(self._path, self._known)
