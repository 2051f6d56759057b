"""Documents in chunks, cut where no token can change.

A tokenizer's cost and memory grow with the length of one text, and its threads work on one text
each. So a long text is cut into chunks, only at places proved safe by `continuum.text.safe_places`.
Without such a place, a chunk grows as long as needed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from continuum.text.reading import Document

SplitName = Literal["train", "validation"]
CHUNK_CHARS = 1 << 14
LONG_CHUNK_CHARS = 1 << 20
"""A longer chunk takes so much memory that a warning is due."""


@dataclass(frozen=True)
class TextChunk:
    """A part of a document's text, with its position."""

    text: str
    document: Document | None = None
    """None for a text outside any corpus."""
    start: int = 0
    """Offset of its first character in the document."""
    begins: bool = True
    """True for the first chunk of a document, or of one side of a divided document."""
    ends: bool = True
    split: SplitName = "train"

    @property
    def end(self) -> int:
        """Offset after its last character."""
        return self.start + len(self.text)

    def part(self, start: int, end: int) -> "TextChunk":
        """The part between two offsets in its text."""
        return replace(
            self,
            text=self.text[start:end],
            start=self.start + start,
            begins=self.begins and start == 0,
            ends=self.ends and end >= len(self.text),
        )

    @property
    def place(self) -> tuple[str, int]:
        """The source of its document, and the document's number there, from 1."""
        document = self.document
        return (document.item.source, document.position + 1) if document is not None else ("", 1)


class Places(Protocol):
    """Finds places where a text may be cut."""

    def find(self, text: str, first: int, last: int) -> int | None:
        """The first place in `[first, last)`, or None. Appending text does not change the answer
        for a place, unless it was None because the text was too short."""


@dataclass
class TextChunker:
    """Cuts texts at safe places, and counts very long chunks."""

    places: Places
    chunk_chars: int = CHUNK_CHARS
    long_chunk_chars: int = LONG_CHUNK_CHARS
    num_long: int = 0

    def cut(self, fragments: Iterable[str]) -> Iterator[str]:
        """Yield non-empty chunks of about `chunk_chars` that join to the text.

        The chunks depend only on the text, not on how it is divided into fragments.
        """
        text = ""
        searched = self.chunk_chars
        for fragment in fragments:
            text += fragment
            start = 0
            while (end := self.places.find(text, start + searched, len(text))) is not None:
                yield self._counted(text[start:end])
                start = end
                searched = self.chunk_chars
            text = text[start:]
            # The place before the last character may depend on the next one.
            searched = max(searched, len(text) - 1)
        if text:
            yield self._counted(text)

    def _counted(self, chunk: str) -> str:
        self.num_long += len(chunk) > self.long_chunk_chars
        return chunk
