# ruff: noqa: RUF001
"""Where a text may be divided: after a paragraph, a line, a sentence or a word, in this order."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

REACH_CHARS = 16
"""How far to search for a grapheme border if nothing better is near; few are longer."""
CONTEXT_CHARS = 256
"""Characters needed on both sides of the candidate places."""
MAX_FLAG_LETTERS = 64

_LINE_END = r"(?:\r\n|\r(?!\n)|[\n\v\f\x85\u2028])"
_CLOSING = "[\"'”’»)\\]）」』】》〉｣］]*"
_STOPS = "。！？．｡︒؟۔।॥།॥༎။։።፧។៕‼⁇⁈⁉"
"""Characters that only occur at the end of a sentence, so that no space needs to follow."""
BORDERS = (
    re.compile(rf"{_LINE_END}(?:[ \t]*{_LINE_END})+|\u2029"),  # a blank line
    re.compile(_LINE_END),
    # Only the first character of a run is tried, so that a long run stays fast.
    re.compile(rf"(?<![.!?…])[.!?…]+{_CLOSING}(?=\s)|[{_STOPS}]+{_CLOSING}"),
    re.compile(r"(?<=\S)(?=\s)|(?<=[，、；：､،؛\u200b])"),
)
"""Borders are at the end of the matches; the best kind is first."""

_ZWJ, _ZWNJ = "\u200d", "\u200c"
_EXTENDING = frozenset("\u0e33\u0eb3\uff9e\uff9f" + _ZWJ + _ZWNJ)
"""Characters that extend the one before, although they are not combining marks."""
_VIRAMA_CLASS = 9
"""The canonical combining class of characters that join consonants."""


def nearest_border(text: str, exact: int, margin: int, reach: int = 0) -> int | None:
    """The best place to divide `text`, neither at its beginning nor at its end.

    Args:
        exact: The nearest place of the best kind within `margin` of it is returned.
        margin: Characters before and after `exact`.
        reach: Like `margin`, for borders of graphemes and characters.

    Returns:
        None if the only places are within CRLF.
    """
    first, last = max(1, exact - margin), min(len(text) - 1, exact + margin)
    for kind in BORDERS:
        ends = (match.end() for match in kind.finditer(text))
        inside = (place for place in ends if first <= place <= last)
        found = _nearest(exact, (place for place in inside if is_grapheme_border(text, place)))
        if found is not None:
            return found
    for is_border in (is_grapheme_border, _is_character_border):
        for place in _outwards(exact, max(1, margin, reach)):
            if 0 < place < len(text) and is_border(text, place):
                return place
    return None


def is_grapheme_border(text: str, place: int) -> bool:
    """True if `place` does not divide a grapheme cluster, by the main rules of UAX 29."""
    before, after = text[place - 1], text[place]
    if not _is_character_border(text, place) or before == _ZWJ or after in _EXTENDING:
        return False
    if before in "\r\n" or (before < "\u0300" and after < "\u0300"):
        return True
    if unicodedata.category(after).startswith("M") or _is_emoji_part(after):
        return False
    if unicodedata.combining(before) == _VIRAMA_CLASS and after.isalpha():
        return False
    if _is_flag_letter(before) and _is_flag_letter(after):
        return sum(1 for _ in _flag_letters_before(text, place)) % 2 == 0
    return not ((_is_jamo(before) and _is_jamo_or_syllable(after)) or _is_jamo_tail(after))


def _nearest(exact: int, places: Iterable[int]) -> int | None:
    return min(places, key=lambda place: (abs(place - exact), place), default=None)


def _outwards(exact: int, reach: int) -> Iterator[int]:
    yield exact
    for distance in range(1, reach + 1):
        yield exact - distance
        yield exact + distance


def _is_character_border(text: str, place: int) -> bool:
    """False within CRLF."""
    return text[place - 1] != "\r" or text[place] != "\n"


def _is_emoji_part(sign: str) -> bool:
    """A skin tone, or a letter of the flags of regions."""
    return "\U0001f3fb" <= sign <= "\U0001f3ff" or "\U000e0020" <= sign <= "\U000e007f"


def _is_flag_letter(sign: str) -> bool:
    return "\U0001f1e6" <= sign <= "\U0001f1ff"


def _flag_letters_before(text: str, place: int) -> Iterator[str]:
    # A longer run of flags is not text: any even number gives the same answer.
    for index in range(place - 1, max(-1, place - 1 - MAX_FLAG_LETTERS), -1):
        if not _is_flag_letter(text[index]):
            return
        yield text[index]


def _is_jamo(sign: str) -> bool:
    """True for a leading consonant of Hangul, which joins with what follows."""
    return "\u1100" <= sign <= "\u115f" or "\ua960" <= sign <= "\ua97c"


def _is_jamo_tail(sign: str) -> bool:
    return "\u1160" <= sign <= "\u11ff" or "\ud7b0" <= sign <= "\ud7fb"


def _is_jamo_or_syllable(sign: str) -> bool:
    return _is_jamo(sign) or _is_jamo_tail(sign) or "\uac00" <= sign <= "\ud7a3"
