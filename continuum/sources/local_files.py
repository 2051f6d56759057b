"""Files of this machine that a spec names: by path or glob, or inside a Python package.

A file is known by its name below the pattern's fixed part, never by its absolute path, so that an
experiment means the same on every machine.
"""

import glob
import importlib.util
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from continuum.errors import PreflightError, StageFailedError
from continuum.files import BUFFER_BYTES


@dataclass(frozen=True)
class LocalFile:
    """A file and the name it is known by."""

    name: str
    """Relative to the fixed part of the pattern that found it, with forward slashes."""
    path: Path


def find_files(pattern: str, folder: Path, *, excluded: Path | None = None) -> list[LocalFile]:
    """The files that a path or a glob (`*`, `?`, `[…]`, `**`) leads to, sorted by name.

    Relative patterns begin at `folder`. As in a shell, `*` does not match hidden files. Nothing
    below `excluded` is matched by a glob.

    Raises:
        PreflightError: it leads to no file, or to a folder.
    """
    literal = folder / pattern
    if literal.is_file():
        return [LocalFile(literal.name, literal)]
    if literal.is_dir():
        raise PreflightError(f"{pattern} is a folder; name its files, as in {pattern}/**/*.txt")
    root, rest = _split(folder, pattern)
    if not rest:
        hint = "it is not a regular file" if literal.exists() else "there is no such file"
        raise PreflightError(f"{pattern}: {hint} (looked for {literal})")
    found = [
        LocalFile(PurePosixPath(name).as_posix(), root / name)
        for name in _matches(rest, root)
        if (root / name).is_file()
    ]
    if excluded is not None:
        found = [file for file in found if not _is_below(file.path, excluded)]
    if not found:
        raise PreflightError(f"{pattern}: nothing matches (looked below {root})")
    return found


def find_folder_files(folder: Path, *, excluded: Path | None = None) -> list[LocalFile]:
    """All files below a folder, sorted by name; hidden ones are left out."""
    return find_files("**/*", folder, excluded=excluded)


def copy_file(source: Path, target: Path, on_progress: Callable[[int, int | None], None]) -> None:
    """Copy the bytes, telling how many are done and how many there are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        total = source.stat().st_size
        with source.open("rb") as reader, target.open("wb") as writer:
            done = 0
            while chunk := reader.read(BUFFER_BYTES):
                done += writer.write(chunk)
                on_progress(done, total)
    except OSError as error:
        raise StageFailedError(
            f"{source}: cannot be copied to {target} ({error.strerror or error}); "
            "check that it may be read, and that there is room"
        ) from error


def find_python_files(pattern: str) -> list[LocalFile]:
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
        names = _matches(pattern, root)
        files = [root / name for name in names if "__pycache__" not in name.split("/")]
        found = [
            LocalFile(path.relative_to(root).as_posix(), path)
            for path in files
            if path.is_file() and _is_below(path, boundary)
        ]
        if found:
            return found
    raise PreflightError(
        f"{pattern!r}: no such file in the standard library or an installed package"
    )


def _split(folder: Path, pattern: str) -> tuple[Path, str]:
    """The folder before the first part with a wildcard, and the rest."""
    parts = PurePosixPath(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return folder.joinpath(*parts[:fixed]), "/".join(parts[fixed:])


def _matches(pattern: str, root: Path) -> list[str]:
    # Not Path.glob: what `**` and hidden files mean there depends on Python's version.
    return sorted(glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


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
