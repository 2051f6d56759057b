"""Which documents validate, or how much of the end of each: a draw by hashes and lengths.

Documents, equal ones as one, are ordered by SHA-256 of (split seed, text). Those that come first
validate, as many as give the nearest share of characters. The draw hangs on no file's name and on
no order of files, and another file moves only documents near the border. Where documents are too
few or too long for the share to be near what is asked, the end of each validates.
"""

import hashlib
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from continuum.text.reading import Document
from continuum.text.shares import TOLERANCE, Sides, error_of
from continuum.text_records import SplitMode

MIN_END_CHARS = 32
"""Of a document that is divided, each side has at least as much, if the share allows it: shorter
ends are no text to measure on."""


@dataclass(frozen=True)
class DocumentTable:
    """Hash and length of each document, in the order in which they are read; 24 bytes each."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    """The first sixteen bytes of its hash."""
    num_chars: NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """What validates, in characters at the end of each document: none, some, or all of them."""

    fraction: float
    mode: SplitMode
    num_chars: NDArray[np.int64]
    """Of each document, in the order in which they are read."""
    num_validation: NDArray[np.int64]

    @property
    def sides(self) -> Sides:
        """What each side is to get; borders are still to be found."""
        taken, there = self.num_validation, self.num_chars
        return Sides(
            validation_chars=int(taken.sum()),
            total_chars=int(there.sum()),
            validation_documents=int(np.count_nonzero(taken)),
            training_documents=int(np.count_nonzero(taken < there)),
        )


@dataclass(frozen=True)
class _Groups:
    """Equal documents as one, in the order of their hashes; no empty ones."""

    num_chars: NDArray[np.int64]
    copies: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.num_chars @ self.copies)

    def error(self, taken: NDArray[np.int64], fraction: float) -> float:
        """How far the share of what is taken of each is off, see `error_of`."""
        return error_of(int(taken @ self.copies), self.total, fraction)


def survey(documents: Iterable[Document], seed: int) -> DocumentTable:
    """Read all documents once, in constant memory beside the table."""
    start = hashlib.sha256(f"{seed}\n".encode())
    high, low, lengths = array("Q"), array("Q"), array("q")
    for document in documents:
        hasher = start.copy()
        num_chars = 0
        for fragment in document.fragments:
            hasher.update(fragment.encode())
            num_chars += len(fragment)
        first, second = struct.unpack_from(">QQ", hasher.digest())
        high.append(first)
        low.append(second)
        lengths.append(num_chars)
    return DocumentTable(
        np.frombuffer(high, dtype=np.uint64) if high else np.empty(0, dtype=np.uint64),
        np.frombuffer(low, dtype=np.uint64) if low else np.empty(0, dtype=np.uint64),
        np.frombuffer(lengths, dtype=np.int64) if lengths else np.empty(0, dtype=np.int64),
    )


def draw(table: DocumentTable, fraction: float) -> Draw:
    """Decide what validates; the share of characters is as near to `fraction` as it comes."""
    used = np.flatnonzero(table.num_chars)
    order = used[np.lexsort((table.low[used], table.high[used]))]
    high, low = table.high[order], table.low[order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    group = np.cumsum(is_new) - 1
    groups = _Groups(table.num_chars[order][is_new], np.bincount(group).astype(np.int64))
    mode, taken = _decide(groups, fraction)
    num_validation = np.zeros_like(table.num_chars)
    num_validation[order] = taken[group]
    return Draw(fraction, mode, table.num_chars, num_validation)


def _decide(groups: _Groups, fraction: float) -> tuple[SplitMode, NDArray[np.int64]]:
    whole = _take_documents(groups, np.ones(len(groups.copies), dtype=bool), fraction, 0)
    if groups.error(whole, fraction) <= TOLERANCE:
        return "documents", whole
    best = min(
        (_take_ends(groups, fraction, least) for least in (MIN_END_CHARS, 1)),
        # Half of what is tolerated is left to the search for a border.
        key=lambda taken: max(TOLERANCE / 2, groups.error(taken, fraction)),
    )
    return "ends", best


def _take_documents(
    groups: _Groups, among: NDArray[np.bool_], fraction: float, num_taken: int
) -> NDArray[np.int64]:
    """Whole documents from the beginning of the order, beside `num_taken` characters of others."""
    sizes = np.where(among, groups.num_chars * groups.copies, 0)
    sums = num_taken + np.concatenate(([0], np.cumsum(sizes)))
    count = int(np.abs(sums - fraction * groups.total).argmin())
    is_taken = among & (np.arange(len(among)) < count)
    return np.where(is_taken, groups.num_chars, 0)


def _take_ends(groups: _Groups, fraction: float, least: int) -> NDArray[np.int64]:
    """The end of each document whose sides both have `least` characters; of the others, some."""
    ends: NDArray[np.int64] = np.rint(groups.num_chars * fraction).astype(np.int64)
    is_divided = np.minimum(ends, groups.num_chars - ends) >= least
    ends[~is_divided] = 0
    num_taken = int(ends @ groups.copies)
    ends += _take_documents(groups, ~is_divided, fraction, num_taken)
    return ends
