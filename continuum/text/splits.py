"""Splits the text of a corpus into training and validation, by hashes and lengths.

Documents are ordered by SHA-256 of (split seed, text), with duplicates as one. The first ones
validate, as many as give the nearest share of characters. The split depends neither on file names
nor on their order, and adding a file only moves documents near the border. If documents are too few
or too long to reach the requested share, the end of each validates.
"""

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from continuum.errors import IntegrityError
from continuum.formatting import plural
from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.runs.text_records import Split, SplitMode
from continuum.text.borders import CONTEXT_CHARS, REACH_CHARS, nearest_border
from continuum.text.chunks import SplitName
from continuum.text.decoding import OnBytes
from continuum.text.reading import Document, read_documents

TOLERANCE = 0.25
"""Maximum error of a share, relative to the smaller side."""
MIN_END_CHARS = 32
"""Minimum length of each side of a divided document, if the share allows it: a shorter end is too
little text to evaluate."""
MARGIN = 1 / 8
"""How far from the exact place to search for a border, relative to the smaller side."""
MAX_MARGIN_CHARS = 1 << 15
"""Its maximum, which bounds the memory for a long document."""


@dataclass(frozen=True)
class Sides:
    """Sizes of both sides; divided documents count on both."""

    validation_chars: int
    total_chars: int
    validation_documents: int
    training_documents: int

    @classmethod
    def of(cls, splits: Mapping[SplitName, Split]) -> "Sides":
        """The sizes of two written splits."""
        train, validation = splits["train"], splits["validation"]
        held = validation.num_chars or 0
        return cls(
            held, held + (train.num_chars or 0), validation.num_documents, train.num_documents
        )

    def problem(self, fraction: float) -> str | None:
        """The error if the sizes miss `fraction` by too much; else None."""
        if error_of(self.validation_chars, self.total_chars, fraction) <= TOLERANCE:
            return None
        training_chars = self.total_chars - self.validation_chars
        slack = TOLERANCE * min(fraction, 1 - fraction)
        least, most = ((fraction + sign * slack) * self.total_chars for sign in (-1, 1))
        return (
            f"validation: {{fraction: {fraction:g}}} asks for {fraction * self.total_chars:,.0f} "
            f"of {self.total_chars:,} characters ({least:,.0f} to {most:,.0f} are accepted), but "
            f"validation got {self.validation_chars:,} in "
            f"{plural(self.validation_documents, 'document')} "
            f"({self.validation_chars / self.total_chars:.2%}) and training "
            f"{training_chars:,} in {self.training_documents:,}; the documents are too few, too "
            "long "
            "or too short to split like this: set another fraction, name the validation text with "
            "`files` or `corpus`, or add text"
        )


def error_of(part: int, total: int, fraction: float) -> float:
    """Difference between a part and a fraction of the total, relative to the smaller side."""
    if not total:
        return 0.0
    # Ratios of equal numbers may differ in the last bit.
    return round(abs(part / total - fraction) / min(fraction, 1 - fraction), 9)


@dataclass(frozen=True)
class DocumentTable:
    """Hash and length of each document in reading order; 24 bytes each."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    """The first sixteen bytes of its hash."""
    num_chars: NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """The split: how many characters at the end of each document validate."""

    fraction: float
    mode: SplitMode
    num_chars: NDArray[np.int64]
    """Of each document, in reading order."""
    num_validation: NDArray[np.int64]

    @property
    def sides(self) -> Sides:
        """The planned sizes, before borders are found."""
        taken, there = self.num_validation, self.num_chars
        return Sides(
            validation_chars=int(taken.sum()),
            total_chars=int(there.sum()),
            validation_documents=int(np.count_nonzero(taken)),
            training_documents=int(np.count_nonzero(taken < there)),
        )


@dataclass(frozen=True)
class _Groups:
    """Non-empty documents in the order of their hashes, with duplicates as one."""

    num_chars: NDArray[np.int64]
    copies: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.num_chars @ self.copies)

    def error(self, taken: NDArray[np.int64], fraction: float) -> float:
        """`error_of` the characters taken of each document."""
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
    """Decide what validates, with a share of characters as near to `fraction` as possible."""
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
        # Half of the tolerance is left for the search for a border.
        key=lambda taken: max(TOLERANCE / 2, groups.error(taken, fraction)),
    )
    return "ends", best


def _take_documents(
    groups: _Groups, among: NDArray[np.bool_], fraction: float, num_taken: int
) -> NDArray[np.int64]:
    """Complete documents from the start of the order, besides `num_taken` characters of others."""
    sizes = np.where(among, groups.num_chars * groups.copies, 0)
    sums = num_taken + np.concatenate(([0], np.cumsum(sizes)))
    count = int(np.abs(sums - fraction * groups.total).argmin())
    is_taken = among & (np.arange(len(among)) < count)
    return np.where(is_taken, groups.num_chars, 0)


def _take_ends(groups: _Groups, fraction: float, least: int) -> NDArray[np.int64]:
    """The end of each document if both sides have `least` characters, and some complete others."""
    ends: NDArray[np.int64] = np.rint(groups.num_chars * fraction).astype(np.int64)
    is_divided = np.minimum(ends, groups.num_chars - ends) >= least
    ends[~is_divided] = 0
    num_taken = int(ends @ groups.copies)
    ends += _take_documents(groups, ~is_divided, fraction, num_taken)
    return ends


@dataclass(frozen=True)
class Part:
    """A document, or one side of a divided one; `fragments` can be read once, in order."""

    split: SplitName
    fragments: Iterator[str]
    document: Document | None = None
    """The document that the text belongs to."""


def whole_items(
    corpus: Corpus,
    is_validation: Callable[[CorpusItem], bool],
    *,
    on_bytes: OnBytes | None = None,
) -> Iterator[Part]:
    """Assign each document to the side of its item."""
    for document in read_documents(corpus, on_bytes=on_bytes):
        yield Part(_side(is_validation(document.item)), document.fragments, document)


def by_draw(corpus: Corpus, drawn: Draw, *, on_bytes: OnBytes | None = None) -> Iterator[Part]:
    """Assign each document to its side, or divide it.

    Raises:
        IntegrityError: the corpus has changed since the draw.
    """
    index = -1
    for index, document in enumerate(read_documents(corpus, on_bytes=on_bytes)):
        if index == len(drawn.num_chars):
            raise _changed(corpus)
        num_chars, num_validation = int(drawn.num_chars[index]), int(drawn.num_validation[index])
        if num_validation in (0, num_chars):
            yield Part(_side(num_validation > 0), document.fragments, document)
            continue
        for part in divide(document.fragments, num_chars, num_validation):
            yield replace(part, document=document)
    if index + 1 != len(drawn.num_chars):
        raise _changed(corpus)


def _changed(corpus: Corpus) -> IntegrityError:
    return IntegrityError(
        f"{corpus.path}: the corpus changed while it was read; run again without modifying it"
    )


def divide(fragments: Iterable[str], num_chars: int, num_validation: int) -> Iterator[Part]:
    """Divide a text into its start, for training, and its end, for validation.

    Read the first part before requesting the second.

    Args:
        num_chars: Length of the text.
        num_validation: Approximate length of its end: more than 0, less than `num_chars`.
    """
    division = _Division(iter(fragments), num_chars, num_validation)
    yield Part("train", division.beginning())
    yield Part("validation", division.end())


class _Division:
    """Reads a text once and finds where to divide it on the way."""

    def __init__(self, fragments: Iterator[str], num_chars: int, num_validation: int) -> None:
        smaller = min(num_validation, num_chars - num_validation)
        self._fragments = fragments
        self._exact = num_chars - num_validation
        self._margin = min(int(smaller * MARGIN), MAX_MARGIN_CHARS)
        self._reach = min(smaller // 4, REACH_CHARS)
        self._rest = ""

    def beginning(self) -> Iterator[str]:
        span = max(self._margin, self._reach, 1) + CONTEXT_CHARS
        first, last = max(0, self._exact - span), self._exact + span
        start = 0
        window = ""
        for fragment in self._fragments:
            window += fragment
            if start + len(window) < first:
                yield window
                start += len(window)
                window = ""
            elif start + len(window) >= last:
                break
        # The same characters are searched, whatever the fragments are.
        around = window[first - start : last - start]
        found = nearest_border(around, self._exact - first, self._margin, self._reach)
        place = len(window) if found is None else first - start + found
        self._rest = window[place:]
        yield window[:place]

    def end(self) -> Iterator[str]:
        yield self._rest
        yield from self._fragments


def _side(is_validation: bool) -> SplitName:
    return "validation" if is_validation else "train"
