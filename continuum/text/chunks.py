"""Parts of documents, and long texts cut where no token can tell.

A tokenizer's cost and memory grow with the length of one text, and its threads work on one text
each. So a long text is cut into chunks, at places that are proved to change no token, see
`continuum.text.safe_places`. Where there is no such place, a chunk is as long as it must be.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from continuum.text.reading import Document

SplitName = Literal["train", "validation"]
CHUNK_CHARS = 1 << 14
LONG_CHUNK_CHARS = 1 << 20
"""A longer chunk costs memory that is worth a remark."""


@dataclass(frozen=True)
class TextChunk:
    """A part of a document's text, and where it is."""

    text: str
    document: Document | None = None
    """None for a text that is in no corpus."""
    start: int = 0
    """Its first character in the document."""
    begins: bool = True
    """Whether it is the beginning of the document, or of what its split has of it."""
    ends: bool = True
    split: SplitName = "train"

    @property
    def end(self) -> int:
        """The character after its last."""
        return self.start + len(self.text)

    def part(self, start: int, end: int) -> "TextChunk":
        """Some of it, between two places in its text."""
        return replace(
            self,
            text=self.text[start:end],
            start=self.start + start,
            begins=self.begins and start == 0,
            ends=self.ends and end >= len(self.text),
        )

    @property
    def place(self) -> tuple[str, int]:
        """The source of its document, and which of that it is, from 1."""
        document = self.document
        return (document.item.source, document.position + 1) if document is not None else ("", 1)


class Places(Protocol):
    """Knows where a text may be cut."""

    def find(self, text: str, first: int, last: int) -> int | None:
        """The first place from `first` and before `last`, or None; what it says of a place does
        not change when `text` grows, unless it was None for want of text."""


@dataclass
class TextChunker:
    """Cuts texts at safe places, and counts the chunks that became very long."""

    places: Places
    chunk_chars: int = CHUNK_CHARS
    long_chunk_chars: int = LONG_CHUNK_CHARS
    num_long: int = 0

    def cut(self, fragments: Iterable[str]) -> Iterator[str]:
        """Chunks of about `chunk_chars` that make up the text; none is empty.

        The chunks depend on the text alone, not on how it is divided into fragments.
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
            # The last character may need the next to be judged.
            searched = max(searched, len(text) - 1)
        if text:
            yield self._counted(text)

    def _counted(self, chunk: str) -> str:
        self.num_long += len(chunk) > self.long_chunk_chars
        return chunk
