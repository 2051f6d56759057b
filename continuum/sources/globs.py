"""Expands globs below a folder as a shell does, but without following circular links.

`*`, `?` and `[…]` match within a name, `**` matches any number of folders. Names that start with a
dot only match a part of the pattern that does too. Generated files (`__pycache__`, `*.pyc`,
`node_modules`, editor backups) are skipped if only bare stars match them. Links to folders are
followed unless they lead back to a parent folder. No file is opened.
"""

import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from continuum.errors import PreflightError
from continuum.runs.file_names import escape_name, on_one_line

MAX_LINKS = 500
"""Maximum number of folder links followed below other folder links: more are most likely links that
lead to each other in ever new orders."""
HIDDEN, CIRCLE = "hidden", "circular links"
NOT_FOUND, NO_FOLDER = "file not found", "does not exist"
UNREADABLE = "cannot be read (permission denied); `chmod +rx` the folder, or name others"
_BARE = re.compile(r"[*?]+")
_GENERATED_FOLDERS = re.compile(r"(__pycache__|node_modules|__MACOSX|.*\.(egg|dist)-info)")
_GENERATED_FILES = re.compile(
    r".*\.(py[cod]|swp|swo|bak|orig|rej|tmp|crdownload)|.*~|#.*#|Thumbs\.db|[Dd]esktop\.ini"
)


@dataclass(frozen=True)
class LocalFile:
    """A file and its name in the spec."""

    name: str
    """Relative to the fixed part of the pattern, with forward slashes, escaped."""
    path: Path


@dataclass(frozen=True)
class FoundFiles:
    """The files that a pattern matches, sorted by name, and the skipped ones."""

    files: tuple[LocalFile, ...] = ()
    left: Mapping[str, int] = field(default_factory=Counter)
    """Counts of skipped files by suffix or kind: `.pyc`, `hidden`, `named pipes`."""


def expand(
    pattern: str, root: Path, *, excluded: Path | None = None, counts_hidden: bool = False
) -> FoundFiles:
    """Match a pattern below `root`; the result is sorted by name.

    Args:
        excluded: A folder that is not searched.
        counts_hidden: Whether to count hidden names as skipped.

    Raises:
        PreflightError: a folder or file cannot be read, a link is broken, or there are too many
            links to folders.
    """
    walk = _Walk(root, pattern, excluded, counts_hidden)
    walk.run()
    files = sorted(walk.files, key=lambda file: file.name)
    return FoundFiles(tuple(map(check_readable, files)), walk.left)


def check_readable(file: LocalFile) -> LocalFile:
    """Return the file if it can be read.

    Raises:
        PreflightError: permission denied.
    """
    if not _may(file.path, os.R_OK):
        raise PreflightError(
            f"{on_one_line(str(file.path))}: permission denied; `chmod +r` the file, or name others"
        )
    return file


def mode_of(path: Path) -> int:
    """The `st_mode` of what a path leads to; 0 if there is nothing or it may not be known."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def why_no_file(path: Path) -> str:
    """Why a path is not a file."""
    try:
        path.stat()
    except PermissionError:
        return "permission denied; `chmod +rx` its folders, or name others"
    except OSError:
        is_link = path.is_symlink()
        return f"broken link to {on_one_line(str(path.readlink()))}" if is_link else NOT_FOUND
    return "not a regular file"


def why_no_folder(path: Path) -> str | None:
    """Why a path is not a folder whose files can be read; None if it is."""
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return UNREADABLE
    except OSError:
        return NO_FOLDER
    if not stat.S_ISDIR(mode):
        return "is not a folder"
    return None if _may(path, os.R_OK | os.X_OK) else UNREADABLE


def _may(path: Path, access: int) -> bool:
    return os.access(path, access, effective_ids=os.access in os.supports_effective_ids)


def label_of(name: str) -> str:
    """The label of a file in counts: its suffix, with that of a compression."""
    last = name.rpartition("/")[2]
    if last.endswith("~"):
        return "~"
    found = re.search(r"(\.[^.]{1,20})?(\.[^.]{1,20})$", last[1:].lower())
    if found is None:
        return "without a suffix"
    before, suffix = found.groups(default="")
    return escape_name(before + suffix if suffix in {".gz", ".zst", ".xz", ".bz2"} else suffix)


@dataclass(frozen=True)
class _Folder:
    name: str
    """Path below the root, with a trailing slash; empty for the root."""
    parts: frozenset[int]
    """The parts of the pattern that its entries may match."""
    above: frozenset[tuple[int, int]]
    """The folder and its parents."""
    is_linked: bool = False
    """True below a link."""


class _Walk:
    def __init__(
        self, root: Path, pattern: str, excluded: Path | None, counts_hidden: bool
    ) -> None:
        self.files: list[LocalFile] = []
        self.left: Counter[str] = Counter()
        self._root = root
        self._parts = pattern.split("/")
        self._matches = [re.compile(fnmatch.translate(part)).match for part in self._parts]
        self._excluded_id = _identity_of(excluded)
        self._excluded = excluded.resolve() if excluded and self._excluded_id else None
        self._counts_hidden = counts_hidden
        self._folders: list[_Folder] = []
        self._num_links = 0

    def run(self) -> None:
        own = _identity_of(self._root)
        if own is not None and not self._is_excluded(""):
            self._folders.append(_Folder("", self._with_next({0}), frozenset({own})))
        while self._folders:
            folder = self._folders.pop()
            for entry in self._listed(folder.name):
                self._meet(folder, entry)

    def _meet(self, folder: _Folder, entry: os.DirEntry[str]) -> None:
        name, kind = folder.name + entry.name, _kind(entry)
        is_folder = "folder" in kind
        parts, left = self._parts_for(folder, entry.name, is_folder=is_folder)
        if is_folder and (inner := self._parts_below(parts)):
            self._enter(folder, name, inner, is_link=kind != "folder")
        elif not is_folder and kind and len(self._parts) - 1 in parts:
            if kind not in {"file", "link to a file", "link to nothing"}:
                self.left[kind] += 1
            elif kind == "file" or not self._is_excluded(name):
                self._take(name, kind)
        elif left == "__pycache__/":  # small; counted by its files
            self.left.update(label_of(it.name) for it in self._listed(f"{name}/"))
        elif left:
            self.left[left] += 1

    def _take(self, name: str, kind: str) -> None:
        path = self._root / name
        if kind == "link to nothing":
            raise PreflightError(
                f"{on_one_line(str(path))}: {why_no_file(path)}; restore the file, or remove "
                "the link"
            )
        self.files.append(LocalFile(escape_name(name), path))

    def _parts_for(
        self, folder: _Folder, name: str, *, is_folder: bool
    ) -> tuple[set[int], str | None]:
        """The parts of the pattern that match a name, and its label if it is skipped."""
        parts, left = set(), None
        for number in folder.parts:
            part = self._parts[number]
            if not self._matches[number](name):
                continue
            if name.startswith(".") and not part.startswith("."):
                left = HIDDEN if self._counts_hidden else left
            elif _BARE.fullmatch(part) and _is_generated(name, is_folder=is_folder):
                left = f"{escape_name(name)}/" if is_folder else label_of(name)
            else:
                parts.add(number)
        return parts, left

    def _parts_below(self, parts: Iterable[int]) -> frozenset[int]:
        """The parts that may match the entries of a folder whose name matches these."""
        last = len(self._parts) - 1
        below = {n if self._parts[n] == "**" else n + 1 for n in parts} - {last + 1}
        return self._with_next(below)

    def _with_next(self, parts: set[int]) -> frozenset[int]:
        """These parts, and their successors where `**` matches no folder."""
        for number, part in enumerate(self._parts[:-1]):
            if number in parts and part == "**":
                parts = parts | {number + 1}
        return frozenset(parts)

    def _enter(self, above: _Folder, name: str, parts: frozenset[int], *, is_link: bool) -> None:
        own = _identity_of(self._root / name)
        if own is None or own == self._excluded_id or (is_link and self._is_excluded(name)):
            return
        if is_link and own in above.above:
            self.left[CIRCLE] += 1
            return
        self._num_links += is_link and above.is_linked
        if self._num_links > MAX_LINKS:
            raise PreflightError(
                f"{on_one_line(str(self._root))}: more than {MAX_LINKS:,} links to folders below "
                f"linked folders, such as {escape_name(name)}; name fewer folders"
            )
        is_linked = is_link or above.is_linked
        self._folders.append(_Folder(f"{name}/", parts, above.above | {own}, is_linked))

    def _is_excluded(self, name: str) -> bool:
        path = self._root / name
        return self._excluded is not None and path.resolve().is_relative_to(self._excluded)

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        path = self._root / folder
        try:
            with os.scandir(path) as entries:
                return list(entries)
        except OSError as error:
            raise PreflightError(
                f"{on_one_line(str(path))}: cannot read the folder ({error.strerror}); "
                "change its permissions, or name others"
            ) from None


def _is_generated(name: str, *, is_folder: bool) -> bool:
    return (_GENERATED_FOLDERS if is_folder else _GENERATED_FILES).fullmatch(name) is not None


def _kind(entry: os.DirEntry[str]) -> str:
    """`file`, `folder`, `link to a …`, `link to nothing`, or another kind in the plural."""
    is_link = entry.is_symlink()
    if not is_link and entry.is_file():
        return "file"  # without reading its inode
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "link to nothing" if is_link else ""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        kind = "file" if stat.S_ISREG(mode) else "folder"
        return f"link to a {kind}" if is_link else kind
    if stat.S_ISFIFO(mode):
        return "named pipes"
    return "sockets" if stat.S_ISSOCK(mode) else "devices"


def _identity_of(path: Path | None) -> tuple[int, int] | None:
    """The device and inode of a folder; None if it does not exist."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)
