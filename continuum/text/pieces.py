"""Long texts cut where a byte-level BPE would cut them anyway.

A tokenizer's cost and memory grow with the length of one text, and its threads work on one text
each. Byte-level BPE first splits a text by a regular expression and merges only inside the parts;
all the expressions in use end a part where letters or digits meet whitespace, and where letters
meet common punctuation. So the text may be cut *before* that whitespace or mark; a cut after it
would change tokens (a space joins the next word, `\\n\\n` is one token). That is a habit, not a
law: `continuum.text.encoding` proves it for the tokenizer and the corpus at hand.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PIECE_CHARS = 1 << 14
MAX_PIECE_CHARS = 1 << 20
"""Where no safe place was met for so long, the text is cut unsafely to bound memory."""

BEFORE_SPACE = re.compile(r"(?<=[^\W_])(?=\s)")
BEFORE_SPACE_OR_MARK = re.compile(
    r"(?<=[^\W_])(?=\s)|(?<=[^\W\d_])(?=[.,;:!?()\u3001\u3002\uff0c\uff1b\uff1a\uff01\uff1f])"
)
"""Scripts that write no spaces, and packed code, have few places of the first kind."""


@dataclass
class Cutter:
    """Cuts texts at safe places, and counts the unsafe cuts it had to make."""

    safe_place: re.Pattern[str]
    piece_chars: int = PIECE_CHARS
    max_piece_chars: int = MAX_PIECE_CHARS
    num_unsafe: int = 0

    def cut(self, fragments: Iterable[str]) -> Iterator[str]:
        """Pieces of about `piece_chars` that make up the text; none is empty.

        The pieces depend on the text alone, not on how it is divided into fragments.
        """
        text = ""
        for fragment in fragments:
            text += fragment
            start = 0
            while (end := self._next_place(text, start)) is not None:
                yield text[start:end]
                start = end
            text = text[start:]
        if text:
            yield text

    def _next_place(self, text: str, start: int) -> int | None:
        first, last = start + self.piece_chars, start + self.max_piece_chars
        if match := self.safe_place.search(text, first, last):
            return match.start()
        if len(text) > last:
            self.num_unsafe += 1
            return last
        return None
