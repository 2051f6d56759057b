"""Atomic file writes, and SHA-256 checksums.

All records are written to a temporary file beside their place, flushed to the disk and renamed, so
a reader never sees half a file, whenever the process dies. `fsync` of the folder makes the rename
itself survive a power failure.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from continuum.cpus import num_processors
from continuum.errors import IntegrityError, PreflightError
from continuum.runs.file_names import encodable, encodable_json

BUFFER_BYTES = 1 << 20
SETTLED_S = 2.0
"""Age of a file's last change after which its stamp is cached: the resolution of FAT's times."""
SIDE_BY_SIDE_BYTES = 1 << 26
"""Files with fewer bytes in all are read one by one: threads would cost more than hashing."""


class FileDigest(BaseModel):
    """One file of an artifact: its path, size and SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the artifact's folder, with forward slashes."""
    size_bytes: int
    sha256: str


def sha256_file(path: Path, num_bytes: int | None = None) -> str:
    """The SHA-256 of a file, or of its first `num_bytes`, as hexadecimal."""
    digest = hashlib.sha256()
    left = num_bytes
    with path.open("rb") as file:
        while chunk := file.read(BUFFER_BYTES if left is None else min(left, BUFFER_BYTES)):
            digest.update(chunk)
            left = None if left is None else left - len(chunk)
    return digest.hexdigest()


def stamp(status: os.stat_result) -> str:
    """Device, inode, size and times: they identify a file and change with its content."""
    times = f"{status.st_mtime_ns}:{status.st_ctime_ns}"
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{times}"


def is_settled(status: os.stat_result) -> bool:
    """Whether the last change is old enough for another to change the times.

    Within one tick of the clock, other content of the same length would look unchanged.
    """
    return time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_S


def _stamp_if_settled(path: Path) -> str:
    """The stamp by which a file's hash can be cached; empty if it cannot be yet."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return stamp(status) if is_settled(status) else ""


class DigestCache:
    """Caches the SHA-256 of local files by their stamp, as Git's index does; holds no paths."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_changed = False
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        # An unreadable cache counts as empty.
        self._known: dict[str, str] = known if isinstance(known, dict) else {}

    def sha256(self, path: Path) -> str | None:
        """The hash of a file; None if there is no such file."""
        try:
            status = path.stat()
        except OSError:
            return None
        key = stamp(status)
        if key in self._known:
            return self._known[key]
        can_be_cached = is_settled(status)
        digest = sha256_file(path)
        if can_be_cached:
            self._known[key] = digest
            self._is_changed = True
        return digest

    def find_damage(self, folder: Path, files: Iterable[FileDigest]) -> list[str]:
        """Compare the content of files with their record, as `find_damage` does.

        Reads those that it does not know by their stamp.
        """
        stamps = {file: _stamp_if_settled(folder / file.path) for file in files}
        unknown = [file for file, key in stamps.items() if self._known.get(key) != file.sha256]
        wrong = _find_wrong(folder, unknown, read=True)
        for file in unknown:
            if (key := stamps[file]) and file.path not in wrong:
                self._known[key] = file.sha256
                self._is_changed = True
        return list(wrong.values())

    def save(self) -> None:
        """Write the cache; only the holder of the folder's lock may."""
        if self._is_changed:
            write_json(self._path, self._known)


def hash_tree(folder: Path, known: Iterable[FileDigest] = ()) -> tuple[FileDigest, ...]:
    """Digests of all files below `folder`, sorted by relative path.

    Args:
        known: Digests of files that need not be read.
    """
    digests = {digest.path: digest for digest in known}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in digests:
            digests[name] = hash_file(path, folder)
    return tuple(digests[name] for name in sorted(digests))


def hash_file(path: Path, folder: Path) -> FileDigest:
    """The digest of one file, by its path relative to a folder above it."""
    name, size = path.relative_to(folder).as_posix(), path.stat().st_size
    return FileDigest(path=name, size_bytes=size, sha256=sha256_file(path))


def tree_digest(files: Iterable[FileDigest]) -> str:
    """One SHA-256 for a set of files, over their sorted paths, sizes and hashes."""
    lines = sorted(f"{file.sha256} {file.size_bytes} {file.path}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_damage(folder: Path, files: Iterable[FileDigest], *, read: bool) -> list[str]:
    """Compare the files below `folder` with their record; return a message for each difference.

    With `read=False` only presence and sizes are compared. Files are read in parallel, since one
    processor hashes less than a disk reads.
    """
    return list(_find_wrong(folder, tuple(files), read=read).values())


def find_rewritten(folder: Path, files: Iterable[FileDigest], record: Path) -> Iterator[FileDigest]:
    """The files that were written after their record; a copy of a file often is."""
    recorded_at = record.stat().st_mtime_ns
    for file in files:
        with suppress(OSError):
            if os.stat(f"{folder}/{file.path}").st_mtime_ns > recorded_at:  # noqa: PTH116
                yield file


def _find_wrong(folder: Path, listed: Sequence[FileDigest], *, read: bool) -> dict[str, str]:
    wrong = find_wrong_sizes(str(folder), ((file.path, file.size_bytes) for file in listed))
    if read:
        of_right_size = [file for file in listed if file.path not in wrong]
        num_bytes = sum(file.size_bytes for file in of_right_size)
        hashes = _hash_all([folder / file.path for file in of_right_size], num_bytes)
        for file, sha256 in zip(of_right_size, hashes, strict=True):
            if isinstance(sha256, OSError):
                wrong[file.path] = f"{file.path} cannot be read: {sha256.strerror}"
            elif sha256 != file.sha256:
                wrong[file.path] = f"{file.path} does not match its recorded checksum"
    return {file.path: wrong[file.path] for file in listed if file.path in wrong}


def _hash_all(paths: Sequence[Path], num_bytes: int) -> list[str | OSError]:
    """The SHA-256 or read error of files with `num_bytes` in all."""
    if len(paths) < 2 or num_bytes < SIDE_BY_SIDE_BYTES:
        return [_hash_or_error(path) for path in paths]
    from concurrent.futures import ThreadPoolExecutor  # most commands hash nothing

    with ThreadPoolExecutor(min(len(paths), num_processors())) as threads:
        return list(threads.map(_hash_or_error, paths))


def _hash_or_error(path: Path) -> str | OSError:
    try:
        return sha256_file(path)
    except OSError as error:
        return error


def find_wrong_sizes(folder: str, sizes: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Messages about files that are missing or have another size than recorded, by name.

    A large folder has a million files: use one system call for each, and no `Path`.
    """
    wrong = {}
    for name, size_bytes in sizes:
        try:
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError
        except (FileNotFoundError, NotADirectoryError):
            wrong[name] = f"{name} is missing"
        except OSError as error:
            wrong[name] = f"{name} cannot be read: {error.strerror}"
        else:
            if status.st_size != size_bytes:
                wrong[name] = f"{name} has {status.st_size} bytes, expected {size_bytes}"
    return wrong


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8 atomically; see `write_bytes` and, for file names, `encodable`."""
    write_bytes(path, encodable(text).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _named(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """`value` as indented JSON with a final newline."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return encodable_json(text) + "\n"


def append_json_line(path: Path, value: Any) -> None:
    """Append one JSON document as a line, flushed to disk.

    First removes an incomplete last line, which a killed process left.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    line = encodable_json(text).encode() + b"\n"
    # Unbuffered: closing the file must not repeat a write that a full disk refused.
    with _named(path), path.open("a+b", buffering=0) as file:
        _truncate_incomplete_line(file)
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())


def read_json_lines(path: Path, *, key: str, having: str = "") -> list[dict[str, Any]]:
    """Read the complete lines of a JSON-lines file; a missing file has none.

    Args:
        key: A key that every line must have.
        having: Only lines with this text.

    Raises:
        IntegrityError: a line is not valid.
    """
    if not path.is_file():
        return []
    finished, _, _ = path.read_bytes().rpartition(b"\n")
    wanted, rows = having.encode(), []
    for number, line in enumerate(finished.split(b"\n"), start=1):
        if not line.strip() or wanted not in line:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or key not in row:
            raise IntegrityError(f"{path}:{number} is not a valid record; fix or remove the line")
        rows.append(row)
    return rows


def remove_tree(path: Path) -> None:
    """Remove a folder and its content; of a link, only the link."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def check_folder(path: Path) -> None:
    """Check that a path may hold files: it is a folder, or nothing yet.

    Raises:
        PreflightError: it is a file, or a link to what does not exist.
    """
    if path.is_dir() or not os.path.lexists(path):
        return
    if path.is_symlink() and not path.exists():
        raise PreflightError(
            f"{path}: a link to {path.readlink()}, which does not exist; mount its disk or restore "
            "the folder, or remove the link to start without earlier runs"
        )
    raise PreflightError(f"{path}: not a folder; move it away, so that runs can be kept there")


def fsync_folder(folder: Path) -> None:
    """Flush the names in `folder` (creations, renames) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder` to the disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync_folder(path)
        elif path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    fsync_folder(folder)


def link_or_copy(source: Path, target: Path) -> None:
    """Create `target` as a hard link to `source`, or as a copy where links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the file name to errors: those of a write, unlike those of `open`, have none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _truncate_incomplete_line(file: FileIO) -> None:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    file.truncate(end)
    file.seek(0, os.SEEK_END)
