"""Finds local files that a spec names: by path or glob, or inside a Python package.

A file is known by its name below the pattern's fixed part, never by its absolute path, so that an
experiment means the same on every machine. Names are escaped as in `continuum.runs.file_names`.
"""

import glob
import importlib.util
import os
import re
import stat
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from continuum.disk_errors import FULL, disk_remedy
from continuum.errors import IntegrityError, PreflightError, StageFailedError
from continuum.runs.file_names import escape_name, on_one_line, unescape_name
from continuum.runs.files import BUFFER_BYTES
from continuum.sources.globs import (
    NO_FOLDER,
    NOT_FOUND,
    FoundFiles,
    LocalFile,
    check_readable,
    expand,
    label_of,
    mode_of,
    why_no_file,
    why_no_folder,
)
from continuum.suggestions import closest

MAX_COMPARED = 1000
"""Names of a folder with which a misspelled one is compared."""


def find_files(pattern: str, folder: Path, *, excluded: Path | None = None) -> FoundFiles:
    """The files that match a path or a glob (`*`, `?`, `[…]`, `**`), see `sources.globs`.

    Relative patterns start at `folder`. A name that YAML cannot hold is escaped as in records,
    `caf\\xe9.txt`. A glob matches nothing below `excluded`.

    Raises:
        PreflightError: no file matches, a folder matches, or a file cannot be read.
    """
    for literal in (folder / unescape_name(pattern), folder / pattern):
        mode = mode_of(literal)
        if stat.S_ISREG(mode):
            return FoundFiles((check_readable(LocalFile(escape_name(literal.name), literal)),))
        if stat.S_ISDIR(mode):
            raise PreflightError(
                f"{pattern} is a folder; name its files, for example {pattern}/**/*.txt"
            )
    # The folder before the first part with a wildcard, and the rest.
    parts = PurePosixPath(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root, rest = folder.joinpath(*parts[:fixed]), "/".join(map(unescape_name, parts[fixed:]))
    if not rest:
        why = why_no_file(literal)
        advice = _advice(pattern, folder) if why == NOT_FOUND else ""
        raise PreflightError(f"{pattern}: {why} (resolved to {_shown(literal)}){advice}")
    if not stat.S_ISDIR(mode_of(root)):
        root = Path(unescape_name(str(root)))
    if problem := why_no_folder(root):
        advice = _advice(pattern, folder) if problem == NO_FOLDER else ""
        raise PreflightError(f"{pattern}: no file matches: {_shown(root)} {problem}{advice}")
    found = expand(rest, root, excluded=excluded)
    if not found.files:
        left = f"; skipped: {describe_files(found.left)}" if found.left else ""
        advice = left or _slashes(pattern) or _others(root, rest, excluded)
        raise PreflightError(f"{pattern}: no file matches (searched {_shown(root)}){advice}")
    return found


def _slashes(pattern: str) -> str:
    return "; write paths with `/`, not `\\`" if "\\" in unescape_name(pattern) else ""


def _advice(pattern: str, folder: Path) -> str:
    r"""What a path that leads to nothing may have meant: `\`, a shell's variable, a typo."""
    if advice := _slashes(pattern):
        return advice
    if variable := re.search(r"\$\w+", pattern):
        return f"; {variable[0]} is not expanded in paths: write it out, or `~` for the home folder"
    parts = PurePosixPath(pattern).parts
    known = folder
    for number, part in enumerate(parts):
        if not mode_of(known / part):
            with suppress(OSError):
                if meant := closest(part, _names_in(known)):
                    named = PurePosixPath(*parts[:number], escape_name(meant), *parts[number + 1 :])
                    return f"; did you mean '{named}'?"
            break
        known = known / part
    is_relative = not PurePosixPath(pattern).is_absolute()
    return "; relative paths start at the folder of the spec" if is_relative else ""


def _names_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, MAX_COMPARED)]


def _others(root: Path, rest: str, excluded: Path | None) -> str:
    """The kinds of files that the last part of a pattern does not match."""
    before = rest.rpartition("/")[0]
    kinds: Counter[str] = Counter()
    with suppress(PreflightError):  # of a file that nobody asked for
        beside = expand(f"{before}/*" if before else "*", root, excluded=excluded).files
        kinds.update(label_of(file.name) for file in beside)
    return f"; found {describe_files(kinds)}" if kinds else ""


def describe_files(counts: Mapping[str, int], limit: int = 8) -> str:
    """Counts of files by kind, such as `12 .txt, 2 README/LICENSE files`."""
    by_number = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{number:,} {label}" for label, number in by_number[:limit]]
    if rest := by_number[limit:]:
        words.append(f"{sum(number for _, number in rest):,} of {len(rest):,} other kinds")
    return ", ".join(words)


def copy_file(source: Path, target: Path, on_progress: Callable[[int, int | None], None]) -> None:
    """Copy a file, and report the copied and total bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _opened(source) as reader, target.open("wb") as writer:
            total = os.fstat(reader.fileno()).st_size
            done = 0
            while chunk := reader.read(BUFFER_BYTES):
                done += writer.write(chunk)
                on_progress(done, total)
    except OSError as error:
        is_full = error.errno in FULL
        remedy = disk_remedy(error, target) if is_full else "check permissions and the disk"
        raise StageFailedError(
            f"{_shown(source)}: cannot copy to {_shown(target)} "
            f"({error.strerror or error}); {remedy} and run again"
        ) from error


@contextmanager
def naming_originals(originals: Mapping[str, str]) -> Iterator[None]:
    """Replace copies in the messages of errors by the originals that the user knows."""
    try:
        yield
    except (IntegrityError, PreflightError, StageFailedError) as error:
        message = str(error)
        for copy, original in originals.items():
            message = message.replace(copy, original)
        raise type(error)(message) from error


def find_python_files(pattern: str) -> FoundFiles:
    """Files of an installed package or of the standard library, without importing anything.

    `pattern` starts with the name of a top-level package or module: `pydoc_data/topics.py`,
    `json/*.py`.

    Raises:
        PreflightError: the pattern leaves its package, or no file matches.
    """
    parts = pattern.split("/")
    top = parts[0].removesuffix(".py") if len(parts) == 1 else parts[0]
    if not top.isidentifier() or "\\" in pattern or any(part in {"", ".", ".."} for part in parts):
        raise PreflightError(
            f"{pattern!r}: must start with the name of a package and stay inside it, "
            "for example pydoc_data/topics.py or json/*.py"
        )
    for root in _python_roots(top):
        boundary = (root / parts[0]).resolve()
        found = tuple(
            file
            for file in expand(pattern, root).files
            if "__pycache__" not in file.path.parts and file.path.resolve().is_relative_to(boundary)
        )
        if found:
            return FoundFiles(found)
    message = f"{pattern!r}: not found in the standard library or an installed package"
    raise PreflightError(message)


def _opened(path: Path) -> BinaryIO:
    # `open` would block on a pipe that has replaced the file.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no longer a regular file")
    return os.fdopen(descriptor, "rb")


def _shown(path: Path) -> str:
    return on_one_line(str(path))


def _python_roots(top: str) -> Iterator[Path]:
    for key in ("stdlib", "platstdlib"):
        root = Path(sysconfig.get_path(key))
        if (root / top).is_dir() or (root / f"{top}.py").is_file():
            yield root
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    for location in spec.submodule_search_locations or ():
        if Path(location).name == top:
            yield Path(location).parent
    if spec.has_location and spec.origin is not None and not spec.submodule_search_locations:
        yield Path(spec.origin).parent
