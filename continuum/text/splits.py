"""Which text trains and which validates: a draw by hashes and lengths, and both sides of it.

Documents, equal ones as one, are ordered by SHA-256 of (split seed, text). Those that come first
validate, as many as give the nearest share of characters. The draw hangs on no file's name and on
no order of files, and another file moves only documents near the border. Where documents are too
few or too long for the share to be near what is asked, the end of each validates.
"""

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from continuum.errors import IntegrityError
from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.runs.text_records import Split, SplitMode
from continuum.text.borders import CONTEXT_CHARS, REACH_CHARS, nearest_border
from continuum.text.chunks import SplitName
from continuum.text.decoding import OnBytes
from continuum.text.reading import Document, read_documents

TOLERANCE = 0.25
"""Of the smaller side: by how much of it a share may be off."""
MIN_END_CHARS = 32
"""Of a document that is divided, each side has at least as much, if the share allows it: shorter
ends are no text to measure on."""
MARGIN = 1 / 8
"""Of the smaller side of a document: how far from the exact place a border is looked for."""
MAX_MARGIN_CHARS = 1 << 15
"""So much of a long document is in memory for it on both sides of the place."""


@dataclass(frozen=True)
class Sides:
    """What validation got, and what there is; documents that are divided are on both sides."""

    validation_chars: int
    total_chars: int
    validation_documents: int
    training_documents: int

    @classmethod
    def of(cls, splits: Mapping[SplitName, Split]) -> "Sides":
        """What two splits got that were written."""
        train, validation = splits["train"], splits["validation"]
        held = validation.num_chars or 0
        return cls(
            held, held + (train.num_chars or 0), validation.num_documents, train.num_documents
        )

    def problem(self, fraction: float) -> str | None:
        """Why this is no division by `fraction`, and what to do; None if it is one."""
        if error_of(self.validation_chars, self.total_chars, fraction) <= TOLERANCE:
            return None
        training_chars = self.total_chars - self.validation_chars
        slack = TOLERANCE * min(fraction, 1 - fraction)
        least, most = ((fraction + sign * slack) * self.total_chars for sign in (-1, 1))
        return (
            f"validation: {{fraction: {fraction:g}}} asks for {fraction * self.total_chars:,.0f} "
            f"of {self.total_chars:,} characters ({least:,.0f} to {most:,.0f} would do), but "
            f"validation got {self.validation_chars:,} of {self.validation_documents:,} "
            f"document(s) ({self.validation_chars / self.total_chars:.2%}), and training "
            f"{training_chars:,} of {self.training_documents:,}; documents this few, long or short "
            "cannot be divided so: state another fraction, name the validation text by `files` or "
            "`corpus`, or add text"
        )


def error_of(part: int, total: int, fraction: float) -> float:
    """How far a part is from a fraction of the total, as a share of the smaller side."""
    if not total:
        return 0.0
    # The ratios of equal numbers may differ in their last bit.
    return round(abs(part / total - fraction) / min(fraction, 1 - fraction), 9)


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


@dataclass(frozen=True)
class Part:
    """A document, or one side of a divided one; `fragments` can be read once, in order."""

    split: SplitName
    fragments: Iterator[str]
    document: Document | None = None
    """Whose text it is."""


def whole_items(
    corpus: Corpus,
    is_validation: Callable[[CorpusItem], bool],
    *,
    on_bytes: OnBytes | None = None,
) -> Iterator[Part]:
    """Each document on the side of its item."""
    for document in read_documents(corpus, on_bytes=on_bytes):
        yield Part(_side(is_validation(document.item)), document.fragments, document)


def by_draw(corpus: Corpus, drawn: Draw, *, on_bytes: OnBytes | None = None) -> Iterator[Part]:
    """Each document on its side, or divided.

    Raises:
        IntegrityError: the corpus has not the documents any more that were drawn from.
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
        f"{corpus.path}: the corpus changed while it was read; run again, and leave it as it is"
    )


def divide(fragments: Iterable[str], num_chars: int, num_validation: int) -> Iterator[Part]:
    """A text's beginning for training, and about so many characters at its end for validation.

    The first part must be read before the second is asked for.

    Args:
        num_chars: Of the text.
        num_validation: Neither none nor all of them.
    """
    division = _Division(iter(fragments), num_chars, num_validation)
    yield Part("train", division.beginning())
    yield Part("validation", division.end())


class _Division:
    """One reading of a text whose place of division is found on the way."""

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
        # The same characters are looked at, whatever the fragments are.
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
