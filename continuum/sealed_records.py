"""The records beside a finished run's `artifact.json`, which seals them as they were at its end.

Sealed: `stage.json`, `resolved.json` and `metrics.jsonl` whole; of `attempts.jsonl` the lines up to
then, as the end of the process is added by whoever waited for it; and the seals of the checkpoints.
A checkpoint that was deleted since is missed by nobody; one that was not there is.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json

from continuum.files import FileDigest, sha256_file
from continuum.records import is_checkpoint_name, read_manifest

ATTEMPTS = "attempts.jsonl"
METRICS = "metrics.jsonl"
RECORDS = ("stage.json", "resolved.json", METRICS, ATTEMPTS)
CHANGED = "was changed after the run was finished"


class SealedRecords(BaseModel):
    """What lay beside `artifact.json` when it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[FileDigest, ...]
    """Of `attempts.jsonl` the first bytes, as many as there were."""
    checkpoints: dict[str, str]
    """The seal of each checkpoint's manifest, by the name of its folder."""


def read_records(run: Path) -> SealedRecords:
    """Those of a run folder as they are now."""
    files = []
    for name in RECORDS:
        path = run / name
        if path.is_file():
            size = _num_finished(path) if name == ATTEMPTS else path.stat().st_size
            digest = sha256_file(path, size)
            files.append(FileDigest(path=name, size_bytes=size, sha256=digest))
    return SealedRecords(files=tuple(files), checkpoints=seals_of_checkpoints(run))


def seals_of_checkpoints(run: Path) -> dict[str, str]:
    """The seal of each checkpoint whose manifest is as it was sealed, by the folder's name."""
    checkpoints, seals = run / "checkpoints", {}
    for folder in sorted(checkpoints.iterdir()) if checkpoints.is_dir() else ():
        manifest = read_manifest(folder) if is_checkpoint_name(folder.name) else ""
        if not isinstance(manifest, str):
            seals[folder.name] = manifest.seal
    return seals


def find_changes(run: Path, then: SealedRecords, *, read: bool) -> Iterator[tuple[str, str]]:
    """What differs from the end of the run: which record, and how.

    Args:
        read: False compares `metrics.jsonl`, which may be large, by its size alone.
    """
    known = {file.path: file for file in then.files}
    for name in RECORDS:
        problem = _change(run / name, known.get(name), read=read)
        if problem:
            yield name, problem


def find_other_seals(then: SealedRecords, now: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Checkpoints that are not those the run ended with, by the seals of the ones there are now."""
    for name, seal in now.items():
        if name not in then.checkpoints:
            yield name, "was added after the run was finished"
        elif seal != then.checkpoints[name]:
            yield name, f"its manifest.json {CHANGED}"


def _change(path: Path, then: FileDigest | None, *, read: bool) -> str | None:
    is_appended = path.name == ATTEMPTS
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None if then is None else "is missing"
    if then is None:
        return None if is_appended else "was added after the run was finished"
    if size < then.size_bytes or (size > then.size_bytes and not is_appended):
        return CHANGED
    reads_it = read or path.name != METRICS
    try:
        if reads_it and sha256_file(path, then.size_bytes) != then.sha256:
            return CHANGED
        if is_appended and size > then.size_bytes and _has_later_attempt(path, then.size_bytes):
            return "has an attempt that began after the run was finished"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def _has_later_attempt(path: Path, offset: int) -> bool:
    with path.open("rb") as file:
        file.seek(offset)
        lines = file.read().splitlines()
    try:
        rows = [from_json(line) for line in lines if line.strip()]
    except ValueError:
        return False  # The rest of a line that was not finished; who reads the file says so.
    return any(isinstance(row, dict) and row.get("event") == "started" for row in rows)


def _num_finished(path: Path) -> int:
    """Bytes up to the last newline: what is behind it is cut off by whoever appends next."""
    return path.read_bytes().rfind(b"\n") + 1
