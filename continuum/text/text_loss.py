"""Compares a text with its decoded tokens: how many characters of each kind are lost.

The comparison counts each character in both texts: this is fast and finds dropped, collapsed and
replaced characters in any order. Text in another canonical form of Unicode (NFC, NFD) is the same
text; it is counted as rewritten.
"""

import unicodedata
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from continuum.runs.text_records import LossExample
from continuum.text.chunks import TextChunk

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
CONTEXT_CHARS = 12
"""Context of an example on each side."""


@dataclass(frozen=True)
class Difference:
    """The loss of one text."""

    lost: dict[str, int]
    """Characters by kind."""
    rewritten: int
    """Characters that were decoded in another canonical form."""
    examples: tuple[LossExample, ...]
    """One per kind."""


NO_DIFFERENCE = Difference({}, 0, ())


def compare(chunk: TextChunk, decoded: str, unknown_text: str = "") -> Difference:
    """Compare a chunk with `decoded`.

    Whitespace at an end of the chunk inside the document does not count: a tokenizer may treat the
    ends of a text differently.
    """
    text = chunk.text
    if text == decoded:
        return NO_DIFFERENCE
    expected, found = unicodedata.normalize("NFC", text), unicodedata.normalize("NFC", decoded)
    if expected == found:
        missing = Counter(text) - Counter(decoded)
        return Difference({}, missing.total(), ())
    has_unknown = bool(unknown_text) and found.count(unknown_text) > expected.count(unknown_text)
    missing, gained = _imbalance(expected, found, unknown_text if has_unknown else "")
    ignored = _inner_whitespace(chunk)
    if ignored and not missing - ignored and not gained:
        return NO_DIFFERENCE
    missing -= ignored
    kinds = {char: _kind(char, gained, has_unknown=has_unknown) for char in missing}
    lost: Counter[str] = Counter()
    for char, number in missing.items():
        lost[kinds[char]] += number
    if (num_added := gained.total() - missing.total()) > 0:
        lost["added characters"] += num_added
    if not lost:
        lost["changed order"] += 1
    first = _first_difference(expected, found)
    examples = []
    for kind in lost:
        chars = {char for char, of in kinds.items() if of == kind}
        place = _place_of(expected, first, chars)
        examples.append(
            LossExample(
                kind=kind,
                source=chunk.place[0],
                document=chunk.place[1],
                character=chunk.start + _unnormalized(text, place) + 1,
                text=expected[max(0, place - CONTEXT_CHARS) : place + CONTEXT_CHARS],
                became=found[max(0, place - CONTEXT_CHARS) : place + CONTEXT_CHARS]
                if place == first
                else "",
            )
        )
    return Difference(dict(lost), 0, tuple(examples))


def _imbalance(expected: str, found: str, unknown: str) -> tuple[Counter[str], Counter[str]]:
    if unknown:
        expected, found = expected.replace(unknown, ""), found.replace(unknown, "")
    before, after = Counter(expected), Counter(found)
    return before - after, after - before


def _inner_whitespace(chunk: TextChunk) -> Counter[str]:
    text = chunk.text
    before = "" if chunk.begins else text[: len(text) - len(text.lstrip())]
    after = "" if chunk.ends else text[len(text.rstrip()) :]
    return Counter(before + after)


def _kind(char: str, gained: Counter[str], *, has_unknown: bool) -> str:
    if char in LINE_ENDS:
        return "line ends"
    if char.isspace():
        return "spaces and tabs"
    if char.lower() != char and gained[char.lower()[0]]:
        return "capital letters"
    base = unicodedata.normalize("NFD", char)
    if len(base) == 1:
        is_accent = "\u0300" <= char <= "\u036f" and not has_unknown
    else:
        is_letter_left = gained[base[0].lower()] or gained[base[0]]
        is_accent = bool(unicodedata.combining(base[-1]) and is_letter_left)
    if is_accent:
        return "accents"
    if has_unknown:
        return "unknown characters"
    return "changed characters" if gained else "vanished characters"


def _first_difference(left: str, right: str) -> int:
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _place_of(text: str, first: int, chars: set[str]) -> int:
    if not chars or text[first : first + 1] in chars:
        return first
    return next((place for place in range(first, len(text)) if text[place] in chars), first)


def _unnormalized(text: str, place: int) -> int:
    """Map an offset in the NFC form of `text` to an offset in `text`."""
    if unicodedata.is_normalized("NFC", text):
        return place
    lengths = range(len(text) + 1)
    normal = [len(unicodedata.normalize("NFC", text[:length])) for length in lengths]
    return bisect_right(normal, place) - 1
