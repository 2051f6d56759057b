"""Records that were read and found whole, remembered by inode, size and times, as Git's index does.

Reading and hashing the records of 100,000 checkpoints takes many seconds; asking whether they have
changed takes a fraction of one. What is kept of each is what a fast look compares: the names and
sizes of its files, and of a finished run its digest and its inputs. A small folder is read anew
each time, and nothing is written there.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from continuum.files import FileDigest, write_text

MIN_REMEMBERED = 500
"""Runs of a folder from which on remembering pays."""
SCHEMA = "continuum.whole/2"


class Listing(NamedTuple):
    """The files of a checkpoint or an artifact."""

    sizes: tuple[tuple[str, int], ...]
    """Name and bytes of each."""
    num_bytes: int
    """Of all of them."""


class UsedInput(NamedTuple):
    """What a finished run recorded of another."""

    ref: str
    run: str
    digest: str
    seal: str | None


class Sealed(NamedTuple):
    """A checkpoint's manifest whose seal was right."""

    mark: str
    """Tells the very file that was read, see `files.stamp`."""
    listing: Listing


class Finished(NamedTuple):
    """The `stage.json` and `artifact.json` of a finished run, and what the latter seals."""

    mark: str
    """Tells all these files but the checkpoints' manifests."""
    folder: str
    """That holds the artifact's files, below the run's."""
    listing: Listing
    digest: str
    inputs: tuple[UsedInput, ...]
    fingerprint: str
    made_at: str
    seal: str | None
    replaces: tuple[str, ...]


@dataclass
class WholeRecords:
    """Those of one run."""

    checkpoints: dict[str, Sealed] = field(default_factory=dict)
    """By the names of their folders."""
    finished: Finished | None = None


class WholeCache:
    """What was found whole before, by the names of the runs."""

    def __init__(self, path: Path | None) -> None:
        """Read the cache; without a path it remembers nothing."""
        self._path = path
        self._runs: dict[str, Any] = {}
        self._listings: list[Listing] = []
        if path is None:
            return
        try:
            document = from_json(path.read_bytes())
            if document["schema"] == SCHEMA:
                self._listings = [_listing(map(tuple, sizes)) for sizes in document["listings"]]
                self._runs = document["runs"]
        except (OSError, ValueError, TypeError, KeyError):
            self._runs = {}  # A cache: what cannot be read is looked at again.

    def of(self, run: str) -> WholeRecords:
        """What is remembered of a run."""
        if run not in self._runs:
            return WholeRecords()
        checkpoints, finished = self._runs[run]
        found = WholeRecords({k: Sealed(m, self._listings[n]) for k, (m, n) in checkpoints.items()})
        if finished is not None:
            mark, folder, number, digest, inputs, fingerprint, made_at, seal, replaces = finished
            used = tuple(UsedInput(*item) for item in inputs)
            found.finished = Finished(
                mark, folder, self._listings[number], digest, used,
                fingerprint, made_at, seal, tuple(replaces),
            )  # fmt: skip
        return found

    def save(self, runs: Mapping[str, WholeRecords | None]) -> None:
        """Remember these, None standing for what is remembered already, and no other run.

        A folder that may not be written is left as it is.
        """
        is_changed = runs.keys() != self._runs.keys() or any(runs.values())
        if self._path is None or len(runs) < MIN_REMEMBERED or not is_changed:
            return
        numbers = {listing: number for number, listing in enumerate(self._listings)}
        known = {
            run: self._runs.get(run, [{}, None]) if found is None else _as_json(found, numbers)
            for run, found in runs.items()
        }
        document = {"schema": SCHEMA, "listings": [it.sizes for it in numbers], "runs": known}
        with suppress(OSError):
            write_text(self._path, json.dumps(document, separators=(",", ":")))


def listing_of(files: Iterable[FileDigest]) -> Listing:
    """The names and sizes alone."""
    return _listing((file.path, file.size_bytes) for file in files)


def _listing(sizes: Iterable[Any]) -> Listing:
    listed = tuple(sizes)
    return Listing(listed, sum(size for _, size in listed))


def _as_json(found: WholeRecords, numbers: dict[Listing, int]) -> list[Any]:
    """A run's records; their listings, most of which are equal, by number."""

    def number(listing: Listing) -> int:
        return numbers.setdefault(listing, len(numbers))

    checkpoints = {name: [it.mark, number(it.listing)] for name, it in found.checkpoints.items()}
    it = found.finished
    finished = [it.mark, it.folder, number(it.listing), *it[3:]] if it else None
    return [checkpoints, finished]
