"""Line ends: a text's CRLF and lone CR read as newlines, or kept; counted either way."""

from collections.abc import Iterable, Iterator
from typing import Literal


class LineEnds:
    """Reads texts and counts the line ends of other systems in them."""

    def __init__(self, newlines: Literal["unix", "keep"]) -> None:
        self._converts = newlines == "unix"
        self._num_returns = 0
        self.num_crlf = 0

    @property
    def num_cr(self) -> int:
        """Lone ones, which no newline follows."""
        return self._num_returns - self.num_crlf

    def read(self, fragments: Iterable[str]) -> Iterator[str]:
        """The fragments of one text; a CRLF may lie across two of them. None is empty."""
        held = ""
        for fragment in fragments:
            text = held + fragment if held else fragment
            held = "\r" if text.endswith("\r") else ""
            if text := text.removesuffix("\r"):
                yield self.read_text(text)
        if held:
            yield self.read_text(held)

    def read_text(self, text: str) -> str:
        """A text that is whole."""
        if "\r" not in text:
            return text
        self._num_returns += text.count("\r")
        self.num_crlf += text.count("\r\n")
        return text.replace("\r\n", "\n").replace("\r", "\n") if self._converts else text
