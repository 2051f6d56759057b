"""Which text trains and which validates.

By fraction: of a whole-file document its last part, so that a single book has both; of JSON lines,
whole documents chosen by a hash. The hash is of the seed, the file's bytes and the line, so it
chooses the same documents when other files come or go, and never puts the copies of one file on
different sides.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Literal

from continuum.artifacts import Corpus, CorpusItem
from continuum.text.reading import Document, OnBytes, read_documents

SplitName = Literal["train", "validation"]
MARGIN_CHARS = 4096
"""How far from the exact fraction a line end (or else whitespace) is looked for."""
LINE_END = re.compile(r"\r\n|\r(?!\n)|\n")
BEFORE_SPACE = re.compile(r"(?<=\S)(?=\s)")


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


def by_fraction(
    corpus: Corpus, fraction: float, *, seed: int | None, on_bytes: OnBytes | None = None
) -> Iterator[Part]:
    """Each document divided, or chosen, so that about `fraction` of the text validates.

    Args:
        seed: Chooses among JSON lines; None where the corpus has none.
    """
    for document in read_documents(corpus, on_bytes=on_bytes):
        if document.item.format == "jsonl":
            side = _side(_draw(seed, document) < fraction)
            yield Part(side, document.fragments, document)
            continue
        num_chars = count_chars(corpus, document.item)
        for part in divide(document.fragments, num_chars, fraction):
            yield replace(part, document=document)


def matches(item: CorpusItem, pattern: str) -> bool:
    """Whether a name or glob means this item: its source or file, in full or by its last part."""
    names = {item.source, item.file}
    names |= {PurePosixPath(name).name for name in names}
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def count_chars(corpus: Corpus, item: CorpusItem) -> int:
    """The length of a whole-file document."""
    return sum(
        len(fragment)
        for document in read_documents(corpus, (item,))
        for fragment in document.fragments
    )


def divide(fragments: Iterable[str], num_chars: int, fraction: float) -> Iterator[Part]:
    """A text's beginning for training and about `fraction` of it, its end, for validation.

    The first part must be read before the second is asked for.
    """
    target = num_chars - round(num_chars * fraction)
    if not 0 < target < num_chars:
        yield Part(_side(target == 0), iter(fragments))
        return
    division = _Division(iter(fragments), target)
    yield Part("train", division.beginning())
    yield Part("validation", division.end())


class _Division:
    """One reading of a text whose place of division is found on the way."""

    def __init__(self, fragments: Iterator[str], target: int) -> None:
        self._fragments = fragments
        self._target = target
        self._rest = ""

    def beginning(self) -> Iterator[str]:
        start = 0
        window = ""
        for fragment in self._fragments:
            window += fragment
            if start + len(window) < self._target - MARGIN_CHARS:
                yield window
                start += len(window)
                window = ""
            elif start + len(window) > self._target + MARGIN_CHARS:
                break
        place = _nearest_place(window, self._target - start)
        self._rest = window[place:]
        yield window[:place]

    def end(self) -> Iterator[str]:
        yield self._rest
        yield from self._fragments


def _nearest_place(text: str, target: int) -> int:
    """Where to divide `text`: nowhere at its ends, best after a line end near `target`."""
    first, last = max(1, target - MARGIN_CHARS), min(len(text) - 1, target + MARGIN_CHARS)
    line_ends = (match.end() for match in LINE_END.finditer(text, first - 1, last + 1))
    spaces = (match.start() for match in BEFORE_SPACE.finditer(text, first, last + 1))
    for places in (line_ends, spaces):
        inside = [place for place in places if first <= place <= last]
        if inside:
            return min(inside, key=lambda place: (abs(place - target), place))
    return target


def _draw(seed: int | None, document: Document) -> float:
    assert seed is not None, "the plan gives a seed to every corpus with JSON lines"
    text = f"{seed} {document.item.sha256} {document.position}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _side(is_validation: bool) -> SplitName:
    return "validation" if is_validation else "train"
