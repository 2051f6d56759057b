"""Files of this machine that a spec names: by path or glob, or inside a Python package.

A file is known by its name below the pattern's fixed part, never by its absolute path, so that an
experiment means the same on every machine. Names are escaped, see `continuum.runs.file_names`.
"""

import glob
import importlib.util
import os
import stat
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from continuum.errors import PreflightError, StageFailedError
from continuum.runs.file_names import escape_name, on_one_line, unescape_name
from continuum.runs.files import BUFFER_BYTES
from continuum.sources.globs import FoundFiles, LocalFile, check_readable, expand, why_no_file


def find_files(pattern: str, folder: Path, *, excluded: Path | None = None) -> FoundFiles:
    """The files that a path or a glob (`*`, `?`, `[…]`, `**`) leads to, see `sources.globs`.

    Relative patterns begin at `folder`. A name that YAML cannot hold is written as records spell
    it, `caf\\xe9.txt`. Nothing below `excluded` is matched by a glob.

    Raises:
        PreflightError: it leads to no file, to a folder, to a file that cannot be read.
    """
    for literal in (folder / unescape_name(pattern), folder / pattern):
        if literal.is_file():
            return FoundFiles((check_readable(LocalFile(escape_name(literal.name), literal)),))
        if literal.is_dir():
            raise PreflightError(f"{pattern} is a folder; name its files, as in {pattern}/**/*.txt")
    # The folder before the first part with a wildcard, and the rest.
    parts = PurePosixPath(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root, rest = folder.joinpath(*parts[:fixed]), "/".join(map(unescape_name, parts[fixed:]))
    if not rest:
        raise PreflightError(f"{pattern}: {why_no_file(literal)} (looked for {_shown(literal)})")
    if not root.is_dir():
        root = Path(unescape_name(str(root)))
    found = expand(rest, root, excluded=excluded)
    if not found.files:
        left = f"; left: {describe_files(found.left)}" if found.left else ""
        raise PreflightError(f"{pattern}: nothing matches (looked below {_shown(root)}){left}")
    return found


def describe_files(counts: Mapping[str, int], limit: int = 8) -> str:
    """How many files of each kind, in words: `12 .txt, 2 README/LICENSE files`."""
    by_number = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{number:,} {label}" for label, number in by_number[:limit]]
    if rest := by_number[limit:]:
        words.append(f"{sum(number for _, number in rest):,} of {len(rest):,} other kinds")
    return ", ".join(words)


def copy_file(source: Path, target: Path, on_progress: Callable[[int, int | None], None]) -> None:
    """Copy the bytes, telling how many are done and how many there are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _opened(source) as reader, target.open("wb") as writer:
            total = os.fstat(reader.fileno()).st_size
            done = 0
            while chunk := reader.read(BUFFER_BYTES):
                done += writer.write(chunk)
                on_progress(done, total)
    except OSError as error:
        raise StageFailedError(
            f"{_shown(source)}: cannot be copied to {_shown(target)} "
            f"({error.strerror or error}); check that it may be read, and that there is room"
        ) from error


def find_python_files(pattern: str) -> FoundFiles:
    """Files of an installed package or of the standard library, without importing anything.

    `pattern` begins with the name of a top-level package or module: `pydoc_data/topics.py`,
    `json/*.py`.

    Raises:
        PreflightError: the pattern leaves its package, or nothing is there.
    """
    parts = pattern.split("/")
    top = parts[0].removesuffix(".py") if len(parts) == 1 else parts[0]
    if not top.isidentifier() or "\\" in pattern or any(part in {"", ".", ".."} for part in parts):
        raise PreflightError(
            f"{pattern!r}: begin with the name of a package and stay below it, "
            "as in pydoc_data/topics.py or json/*.py"
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
    message = f"{pattern!r}: no such file in the standard library or an installed package"
    raise PreflightError(message)


def _opened(path: Path) -> BinaryIO:
    # What became a pipe since it was listed would keep `open` waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file any more")
    return os.fdopen(descriptor, "rb")


def _shown(path: Path) -> str:
    return on_one_line(str(path))


def _python_roots(top: str) -> Iterator[Path]:
    """Folders that hold the top-level package or module `top`."""
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
