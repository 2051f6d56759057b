"""Hold one run's files against its own records.

A folder may have 100,000 checkpoints, so a fast look at one that was found whole before costs one
call of the system for the record and one for each file: paths are texts here, not `Path`s.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from continuum.artifacts import Artifact
from continuum.digest_cache import is_settled
from continuum.errors import IntegrityError
from continuum.files import find_damage, find_wrong_sizes, stamp, tree_digest
from continuum.lineage.whole import (
    Finished,
    Listing,
    Sealed,
    UsedInput,
    WholeRecords,
    listing_of,
)
from continuum.records import CheckpointManifest, StageRecord, is_sealed_as_written
from continuum.runs import StageRun
from continuum.sealed_records import RECORDS, find_other_seals, seals_of_checkpoints

CHANGED = "was changed after it was written"


class Look(NamedTuple):
    """What was found in one run; small, as it is sent between processes."""

    num_checkpoints: int
    num_bytes: int
    """Recorded, of all that was looked at."""
    problems: list[tuple[str, str]]
    """What is not as recorded, and how: `("artifact", "x.txt is missing")`."""
    finished: Finished | None
    """None while the run has not, or where its records cannot be read."""
    whole: WholeRecords | None
    """To be remembered; None when that is nothing new."""


def look_at(run: StageRun, known: WholeRecords, *, is_fast: bool) -> Look:
    """Everything that can be said of a run without looking at another.

    Args:
        known: Records that need not be read again while their files are the same.
        is_fast: Whether sizes are enough; else every byte is read.
    """
    at_run = _RunLook(run, known, is_fast=is_fast)
    names = run.checkpoint_names()
    for name in names:
        at_run.checkpoint(name)
    at_run.finished()
    whole = at_run.whole if at_run.whole != known else None
    return Look(len(names), at_run.num_bytes, at_run.problems, at_run.done, whole)


class _RunLook:
    """One look at one run, and what it has found so far."""

    def __init__(self, run: StageRun, known: WholeRecords, *, is_fast: bool) -> None:
        self.problems: list[tuple[str, str]] = []
        self.num_bytes = 0
        self.done: Finished | None = None
        self.whole = WholeRecords()
        self._run = run
        self._root = str(run.path)
        self._known = known
        self._is_fast = is_fast
        self._has_new_checkpoints = False

    def checkpoint(self, name: str) -> None:
        """Look at a checkpoint's manifest and files."""
        folder, known = f"{self._root}/checkpoints/{name}", self._known.checkpoints.get(name)
        try:
            status = os.stat(f"{folder}/manifest.json")  # noqa: PTH116
            if known is not None and known.mark == stamp(status):
                self.whole.checkpoints[name] = known
                self._compare(name, folder, known.listing)
            else:
                self._has_new_checkpoints = True
                self._read_manifest(name, Path(folder), status)
        except (OSError, ValidationError):
            self.problems.append((name, "its manifest.json cannot be read"))

    def finished(self) -> None:
        """Look at what the run made and what it used, once it has an artifact."""
        statuses = [_status(f"{self._root}/{name}") for name in ("artifact.json", *RECORDS)]
        if statuses[0] is None:
            self._record()  # It may be that of another folder.
            return
        mark, known = " ".join(stamp(it) if it else "-" for it in statuses), self._known.finished
        is_same = known is not None and known.mark == mark and not self._has_new_checkpoints
        if known is not None and is_same:
            self.whole.finished = self.done = known
            self._compare("artifact", f"{self._root}/{known.folder}", known.listing)
            return
        num_problems = len(self.problems)
        artifact, record = self._artifact(), self._record()
        if artifact is None or record is None:
            return
        self._compare_records()
        folder = artifact.path.relative_to(self._run.path).as_posix()
        used = tuple(UsedInput(it.ref, it.run, it.digest, it.seal) for it in record.inputs)
        self.done = Finished(
            mark, folder, listing_of(artifact.files), artifact.digest, used,
            record.fingerprint, record.made_at, self._run.seal(), record.replaces,
        )  # fmt: skip
        is_whole = len(self.problems) == num_problems
        if is_whole and all(it is None or is_settled(it) for it in statuses):
            self.whole.finished = self.done

    def _compare_records(self) -> None:
        """Compare with the records at the end of the run; a fast look does not read metrics."""
        self.problems += self._run.changed_records(read=not self._is_fast)
        then = self._run.sealed_records()
        if then is not None:
            self.problems += find_other_seals(then, seals_of_checkpoints(self._run.path))

    def _compare(self, what: str, folder: str, listing: Listing) -> None:
        self.num_bytes += listing.num_bytes
        self._tell(what, find_wrong_sizes(folder, listing.sizes).values())

    def _read_manifest(self, name: str, folder: Path, status: os.stat_result) -> None:
        raw = (folder / "manifest.json").read_bytes()
        manifest = CheckpointManifest.model_validate_json(raw)
        listing = listing_of(manifest.files)
        self.num_bytes += listing.num_bytes
        self._tell(name, find_damage(folder, manifest.files, read=not self._is_fast))
        if not (is_sealed_as_written(raw) or manifest.is_sealed):
            self._tell(name, [f"manifest.json {CHANGED}"])
        elif is_settled(status):
            self.whole.checkpoints[name] = Sealed(stamp(status), listing)

    def _artifact(self) -> Artifact | None:
        """What the run made; None where its record is not whole."""
        try:
            artifact = self._run.artifact()
        except (IntegrityError, ValidationError) as error:
            self._tell("artifact", [self._first_line(error)])
            return None
        self.num_bytes += sum(file.size_bytes for file in artifact.files)
        self._tell("artifact", find_damage(artifact.path, artifact.files, read=not self._is_fast))
        if tree_digest(artifact.files) == artifact.digest:
            return artifact
        self._tell("artifact", [f"artifact.json {CHANGED}"])
        return None

    def _record(self) -> StageRecord | None:
        """The run's record; None where it is not whole."""
        try:
            record = self._run.record()
        except (IntegrityError, ValidationError) as error:
            self._tell("stage.json", [self._first_line(error)])
            return None
        self._tell("stage.json", self._missing_parts(record))
        return record

    def _missing_parts(self, record: StageRecord) -> Iterator[str]:
        """Files that the record names for what is too long to be in it."""
        folder = self._run.experiment_folder
        for part in record.provenance.values():
            file = part.get("file") if isinstance(part, dict) else None
            if file is not None and not (folder / file).is_file():
                yield f"names {file}, which is missing"

    def _tell(self, what: str, problems: Iterable[str]) -> None:
        self.problems += ((what, problem) for problem in problems)

    def _first_line(self, error: Exception) -> str:
        return str(error).splitlines()[0].replace(f"{self._root}/", "")


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
