"""What a glob matches below a folder: as in a shell, without going round in circles.

`*`, `?` and `[…]` match within a name, `**` any number of folders; none matches a name that begins
with a dot unless the pattern's own part does. What programs generate (`__pycache__`, `*.pyc`,
`node_modules`, editors' backups) is left where it matches no more than bare stars. A link to a
folder is followed, one that leads back to a folder above it is not. Nothing is opened.
"""

import fnmatch
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from continuum.errors import PreflightError
from continuum.file_names import on_one_line, spelled

MAX_LINKS = 500
"""Links to folders, met behind another such link, that are followed: more are most likely links
that lead to each other, in ever new orders."""
HIDDEN, CIRCLE = "hidden", "links that lead back"
_BARE = re.compile(r"[*?]+")
_GENERATED_FOLDERS = re.compile(r"(__pycache__|node_modules|__MACOSX|.*\.(egg|dist)-info)")
_GENERATED_FILES = re.compile(
    r".*\.(py[cod]|swp|swo|bak|orig|rej|tmp|crdownload)|.*~|#.*#|Thumbs\.db|[Dd]esktop\.ini"
)


@dataclass(frozen=True)
class Match:
    """A file that a pattern leads to, or a link to nothing."""

    name: str
    """Below the root, as the system gives it."""
    kind: str
    """`file`, `link to a file` or `link to nothing`."""


@dataclass
class Matches:
    """The files that a pattern leads to, and what was left of what it met."""

    found: list[Match] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """How many, by what they are, see `label_of`."""


def expand(
    pattern: str, root: Path, *, excluded: Path | None = None, counts_hidden: bool = False
) -> Matches:
    """Match a pattern below `root`; sorted by name, however the disk has them.

    Args:
        excluded: A folder that is not entered.
        counts_hidden: Whether hidden names are among what was left.

    Raises:
        PreflightError: a folder cannot be read, or links between folders do not end.
    """
    walk = _Walk(root, tuple(pattern.split("/")), excluded, counts_hidden)
    walk.run()
    walk.made.found.sort(key=lambda match: spelled(match.name))
    return walk.made


def label_of(name: str) -> str:
    """What a file counts as in a listing: its suffix, with that of a compression."""
    last = name.rpartition("/")[2]
    if last.endswith("~"):
        return "~"
    found = re.search(r"(\.[^.]{1,20})?(\.[^.]{1,20})$", last[1:].lower())
    if found is None:
        return "without a suffix"
    before, suffix = found.groups(default="")
    return spelled(before + suffix if suffix in {".gz", ".zst", ".xz", ".bz2"} else suffix)


@dataclass(frozen=True)
class _Entry:
    name: str
    kind: str
    """`folder`, `link to a folder`, one of `Match.kind`, or what it is, in the plural."""


@dataclass(frozen=True)
class _Step:
    """A folder that is to be searched with the pattern from one of its parts on."""

    folder: str
    part: int
    above: frozenset[tuple[int, int]]
    """The folder and those above it."""
    is_linked: bool = False
    """Whether a link led here."""


class _Walk:
    def __init__(
        self,
        root: Path,
        parts: tuple[str, ...],
        excluded: Path | None,
        counts_hidden: bool,
    ) -> None:
        self.made = Matches()
        self._root = root
        self._parts = parts
        self._excluded_id = _identity_of(excluded)
        self._excluded = excluded.resolve() if excluded and self._excluded_id else None
        self._counts_hidden = counts_hidden
        self._steps: list[_Step] = []
        self._seen: set[tuple[str, int]] = set()
        self._taken: set[str] = set()
        self._counted: set[str] = set()
        self._num_links = 0
        self._last: tuple[str, tuple[_Entry, ...]] | None = None

    def run(self) -> None:
        own = _identity_of(self._root)
        if own is not None and not self._is_excluded(self._root):
            self._steps.append(_Step("", 0, frozenset({own})))
        while self._steps:
            step = self._steps.pop()
            if (step.folder, step.part) not in self._seen:
                self._seen.add((step.folder, step.part))
                self._search(step)

    def _is_excluded(self, path: Path) -> bool:
        return self._excluded is not None and path.resolve().is_relative_to(self._excluded)

    def _search(self, step: _Step) -> None:
        part = self._parts[step.part]
        is_last = step.part == len(self._parts) - 1
        if part == "**":
            for entry in self._visible(step.folder):
                self._meet(step, entry, step.part, takes_files=is_last)
            if not is_last:  # next, while the folder's listing is at hand
                self._steps.append(replace(step, part=step.part + 1))
        elif glob.has_magic(part):
            matches = re.compile(fnmatch.translate(part)).match
            for entry in self._visible(step.folder, part):
                if matches(entry.name):
                    self._meet(step, entry, None if is_last else step.part + 1, takes_files=is_last)
        else:
            entry = _Entry(part, self._kind_of(f"{step.folder}{part}"))
            self._meet(step, entry, None if is_last else step.part + 1, takes_files=is_last)

    def _visible(self, folder: str, part: str = "**") -> Iterator[_Entry]:
        """What wildcards may match there."""
        for entry in self._listed(folder):
            if entry.name.startswith(".") and not part.startswith("."):
                if self._counts_hidden:
                    self._leave(folder + entry.name, HIDDEN)
            elif part == "**" or _BARE.fullmatch(part):
                if not self._is_generated(folder, entry):
                    yield entry
            else:
                yield entry

    def _is_generated(self, folder: str, entry: _Entry) -> bool:
        """True of what no one wrote; it is counted."""
        name = folder + entry.name
        if "folder" in entry.kind and _GENERATED_FOLDERS.fullmatch(entry.name):
            if entry.name == "__pycache__":  # small, and known by what is in it
                for inner in self._listed(f"{name}/"):
                    self._leave(f"{name}/{inner.name}", label_of(inner.name))
            else:
                self._leave(name, f"{spelled(entry.name)}/")
            return True
        if "folder" not in entry.kind and _GENERATED_FILES.fullmatch(entry.name):
            self._leave(name, label_of(entry.name))
            return True
        return False

    def _meet(self, step: _Step, entry: _Entry, part: int | None, *, takes_files: bool) -> None:
        """Take a file, or go on below a folder with the pattern from `part` on."""
        name = step.folder + entry.name
        if "folder" in entry.kind:
            if part is not None:
                self._enter(step, name, part, is_link=entry.kind != "folder")
        elif takes_files and entry.kind in {"file", "link to a file", "link to nothing"}:
            is_unknown = name not in self._taken
            if is_unknown and not (entry.kind != "file" and self._is_excluded(self._root / name)):
                self._taken.add(name)
                self.made.found.append(Match(name, entry.kind))
        elif takes_files and entry.kind:
            self._leave(name, entry.kind)

    def _enter(self, step: _Step, name: str, part: int, *, is_link: bool) -> None:
        own = _identity_of(self._root / name)
        if own is None or own == self._excluded_id:
            return
        if is_link:
            if self._is_excluded(self._root / name):
                return
            if own in step.above:
                self._leave(name, CIRCLE)
                return
            self._num_links += step.is_linked
            if self._num_links > MAX_LINKS:
                raise PreflightError(
                    f"{on_one_line(str(self._root))}: linked folders hold more than {MAX_LINKS:,} "
                    f"links to folders, such as {spelled(name)}; name fewer folders"
                )
        is_linked = is_link or step.is_linked
        self._steps.append(_Step(f"{name}/", part, step.above | {own}, is_linked))

    def _leave(self, name: str, label: str) -> None:
        if name not in self._counted:
            self._counted.add(name)
            self.made.left[label] += 1

    def _listed(self, folder: str) -> tuple[_Entry, ...]:
        if self._last is None or self._last[0] != folder:
            path = self._root / folder
            try:
                with os.scandir(path) as entries:
                    listed = tuple(_Entry(entry.name, _kind(entry)) for entry in entries)
            except OSError as error:
                raise PreflightError(
                    f"{on_one_line(str(path))}: the folder cannot be read ({error.strerror}); "
                    "let it be read, or name others"
                ) from None
            self._last = (folder, listed)
        return self._last[1]

    def _kind_of(self, name: str) -> str:
        """Empty where nothing is."""
        path = self._root / name
        try:
            is_link = path.is_symlink()
            return _kind_of_mode(path.stat().st_mode, is_link=is_link)
        except OSError:
            return "link to nothing" if path.is_symlink() else ""


def _kind(entry: os.DirEntry[str]) -> str:
    is_link = entry.is_symlink()
    if not is_link and entry.is_file():
        return "file"  # without a look at its inode
    try:
        return _kind_of_mode(entry.stat().st_mode, is_link=is_link)
    except OSError:
        return "link to nothing" if is_link else ""


def _kind_of_mode(mode: int, *, is_link: bool) -> str:
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        kind = "file" if stat.S_ISREG(mode) else "folder"
        return f"link to a {kind}" if is_link else kind
    if stat.S_ISFIFO(mode):
        return "named pipes"
    return "sockets" if stat.S_ISSOCK(mode) else "devices"


def _identity_of(path: Path | None) -> tuple[int, int] | None:
    """Which folder it is, whatever its name; None where there is none."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
