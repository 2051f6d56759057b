"""Which text trains and which validates: read once more, each part on its side.

By fraction: whole documents that are drawn, or the end of each, see `continuum.text.drawing`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from continuum.artifacts import Corpus, CorpusItem
from continuum.errors import IntegrityError
from continuum.text.borders import CONTEXT_CHARS, REACH_CHARS, nearest_border
from continuum.text.reading import Document, OnBytes, read_documents

if TYPE_CHECKING:
    from continuum.text.drawing import Draw

SplitName = Literal["train", "validation"]
MARGIN = 1 / 8
"""Of the smaller side of a document: how far from the exact place a border is looked for."""
MAX_MARGIN_CHARS = 1 << 15
"""So much of a long document is in memory for it on both sides of the place."""


@dataclass(frozen=True)
class Part:
    """A document, or one side of a divided one; `fragments` can be read once, in order."""

    split: SplitName
    fragments: Iterator[str]
    document: Document | None = None
    """Whose text it is."""
    item: int = 0
    """The number of its item among those of all corpora."""

    @property
    def place(self) -> tuple[int, int]:
        """The number of its item, and its position there."""
        return self.item, self.document.position if self.document is not None else 0


def whole_items(
    corpus: Corpus,
    is_validation: Callable[[CorpusItem], bool],
    *,
    on_bytes: OnBytes | None = None,
) -> Iterator[Part]:
    """Each document on the side of its item."""
    for document in read_documents(corpus, on_bytes=on_bytes):
        yield Part(_side(is_validation(document.item)), document.fragments, document)


def by_draw(corpus: Corpus, drawn: "Draw", *, on_bytes: OnBytes | None = None) -> Iterator[Part]:
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


def matches(item: CorpusItem, pattern: str) -> bool:
    """Whether a name or glob means this item: its source or file, in full or by its last part."""
    names = {item.source, item.file}
    names |= {PurePosixPath(name).name for name in names}
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


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
