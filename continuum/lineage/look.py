"""Hold one run's files against its own records.

A folder may have 100,000 checkpoints, so a fast look at one that was found whole before costs one
call of the system for the record and one for each file: paths are texts here, not `Path`s.
"""

import os
from collections.abc import Iterable
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
from continuum.records import CheckpointManifest, is_sealed_as_written
from continuum.runs import StageRun

CHANGED = "was changed after it was written"


class Look(NamedTuple):
    """What was found in one run; small, as it is sent between processes."""

    num_checkpoints: int
    num_bytes: int
    """Recorded, of all that was looked at."""
    problems: list[tuple[str, str]]
    """What is not as recorded, and how: `("artifact", "x.txt is missing")`."""
    digest: str | None
    """Of what the run made; None while it has not, or where the record cannot be read."""
    inputs: tuple[UsedInput, ...]
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
    return Look(len(names), at_run.num_bytes, at_run.problems, at_run.digest, at_run.inputs, whole)


class _RunLook:
    """One look at one run, and what it has found so far."""

    def __init__(self, run: StageRun, known: WholeRecords, *, is_fast: bool) -> None:
        self.problems: list[tuple[str, str]] = []
        self.num_bytes = 0
        self.digest: str | None = None
        self.inputs: tuple[UsedInput, ...] = ()
        self.whole = WholeRecords()
        self._run = run
        self._root = str(run.path)
        self._known = known
        self._is_fast = is_fast

    def checkpoint(self, name: str) -> None:
        """Look at a checkpoint's manifest and files."""
        folder, known = f"{self._root}/checkpoints/{name}", self._known.checkpoints.get(name)
        try:
            status = os.stat(f"{folder}/manifest.json")  # noqa: PTH116
            if known is not None and known.mark == stamp(status):
                self.whole.checkpoints[name] = known
                self._compare(name, folder, known.listing)
            else:
                self._read_manifest(name, Path(folder), status)
        except (OSError, ValidationError):
            self.problems.append((name, "its manifest.json cannot be read"))

    def finished(self) -> None:
        """Look at what the run made and what it used, once it has an artifact."""
        paths = (f"{self._root}/artifact.json", f"{self._root}/stage.json")
        try:
            statuses = [os.stat(path) for path in paths]  # noqa: PTH116
        except FileNotFoundError:
            return
        mark, known = " ".join(map(stamp, statuses)), self._known.finished
        if known is not None and known.mark == mark:
            self.whole.finished = known
            self.digest, self.inputs = known.digest, known.inputs
            self._compare("artifact", f"{self._root}/{known.folder}", known.listing)
            return
        artifact, used = self._artifact(), self._used()
        if artifact is not None and used is not None and all(map(is_settled, statuses)):
            folder = artifact.path.relative_to(self._run.path).as_posix()
            listing = listing_of(artifact.files)
            self.whole.finished = Finished(mark, folder, listing, artifact.digest, used)

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
            self._tell("artifact", [_first_line(error)])
            return None
        self.digest = artifact.digest
        self.num_bytes += sum(file.size_bytes for file in artifact.files)
        self._tell("artifact", find_damage(artifact.path, artifact.files, read=not self._is_fast))
        if tree_digest(artifact.files) == artifact.digest:
            return artifact
        self._tell("artifact", [f"artifact.json {CHANGED}"])
        return None

    def _used(self) -> tuple[UsedInput, ...] | None:
        """The inputs as the run recorded them; None where the record is not whole."""
        try:
            record = self._run.record()
        except (IntegrityError, ValidationError) as error:
            self._tell("stage.json", [_first_line(error)])
            return None
        self.inputs = tuple(UsedInput(it.ref, it.run, it.digest) for it in record.inputs)
        return self.inputs

    def _tell(self, what: str, problems: Iterable[str]) -> None:
        self.problems += ((what, problem) for problem in problems)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
