"""Places where a text may be cut without changing a token, proved from the tokenizer's files.

`tokenizers` takes four steps, and a cut between `a` and `b` must affect none of them:

1. *Added tokens* are searched in the text. If none holds `ab`, no match spans the place, so the
   matches on both sides are those of the sides alone. Flags that look at or take neighbours
   (`single_word`, `lstrip`, `rstrip`) exclude the characters that they could concern.
2. The *normalizer* must give the sides' results one after another. All that are accepted here
   (see `_Normalizer`) work on characters, except that Unicode's forms also reorder and compose
   marks. So `a`, `b` and their neighbours must be starters that never compose with what precedes
   them: then the form has a boundary on both sides of each, and its images are known.
3. The *pre-tokenizer*. Each of its steps finds matches from left to right, without looking back,
   and yields matches and the text between them as pieces. If no match can contain the images of
   `ab` or look across them (`SplitPattern.may_hold`), the search up to the place is the same with
   and without the following text, and continues from it as at the start of a text. So the pieces
   are those of the sides, except that one between matches may span the place. If a match surely
   starts with `b`, none does, and the proof holds for every model: pieces are encoded one by one.
4. Otherwise the piece that spans the place goes through the *model*, here only BPE. A merge across
   the place would make a token that contains the images of `ab`. If the vocabulary has none, the
   merges of the sides are independent, and their order, by rank and then by position, is that of
   each side alone. Both images must be tokens themselves, so that no unknown token, which may join
   with its neighbour, is at the place. Unigram is not supported: it sums scores from the start of a
   piece, and rounding decides between equal segmentations.

Unicode tables differ by version, so only characters of Unicode 3.2 are considered.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Tokenizer

from continuum.text.split_patterns import (
    SPACES,
    SplitPattern,
    UnsupportedPatternError,
    literal_pattern,
)

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pattern of `ByteLevel`."""
NOTHING = SplitPattern(r"[^\s\S]")
"""Matches no text."""
PLAIN_CATEGORIES = frozenset(("Lu", "Ll", "Lo", "Nd", "Po", "Ps", "Pe"))
CHARWISE_NORMALIZERS = frozenset(("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"))
"""They work character by character on plain characters that they do not change."""
_TOKENS_APART = "\ud800"
"""A separator that no token contains."""


def _byte_signs() -> tuple[str, ...]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTE_SIGNS = _byte_signs()


class UncuttableError(Exception):
    """No place can be proved safe; the message names the cause."""


class SafePlaces:
    """Finds safe places in texts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises UncuttableError."""
        self._normalizer = _Normalizer(tokenizer)
        self._added = _AddedTokens(tokenizer)
        self._steps = _steps(component_kinds(tokenizer.pre_tokenizer, "pretokenizers"))
        self._model = _Bpe(tokenizer)
        self._safe: dict[str, bool] = {}
        self._images: dict[str, str | None] = {}

    def find(self, text: str, first: int, last: int) -> int | None:
        """The first safe place in `[first, last)` that `text` is long enough to prove; `first` is
        at least 1."""
        safe = self._safe
        for place in range(first, min(last, len(text) - 1)):
            pair = text[place - 1 : place + 1]
            is_safe = safe.get(pair)
            if is_safe is None:
                is_safe = safe[pair] = self._is_safe(*pair)
            if is_safe and self._has_plain_neighbours(text, place):
                return place
        return None

    def _has_plain_neighbours(self, text: str, place: int) -> bool:
        if not self._normalizer.needs_neighbours:
            return True
        around = text[max(0, place - 2) : place + 2]
        return all(self._image(char) is not None for char in around)

    def _is_safe(self, left: str, right: str) -> bool:
        before, after = self._image(left), self._image(right)
        if before is None or after is None or not self._normalizer.may_cut(left, right):
            return False
        if self._added.may_see(left, right) or self._added.may_see(before, after):
            return False
        has_border = False
        for step in self._steps:
            if not step.may_begin_with(after, has_border=has_border):
                return False
            if not has_border and step.pattern.may_hold(before, after):
                return False
            has_border |= step.makes_borders and step.pattern.surely_matches(after)
            before, after = step.rewritten(before), step.rewritten(after)
        return has_border or self._model.keeps_apart(before, after)

    def _image(self, char: str) -> str | None:
        """A character's normal form in any context; None if it is unknown."""
        if char not in self._images:
            self._images[char] = self._normalizer.image(char)
        return self._images[char]


def component_kinds(component: Any, members: str) -> list[dict[str, Any]]:
    """The states of a normalizer's parts (`members` is `normalizers`), a pre-tokenizer's
    (`pretokenizers`) or a decoder's (`decoders`), in order."""
    return _flat(json.loads(component.__getstate__()) if component is not None else None, members)


def _flat(kind: dict[str, Any] | None, members: str) -> list[dict[str, Any]]:
    if kind is None:
        return []
    if kind["type"] != "Sequence":
        return [kind]
    return [inner for member in kind[members] for inner in _flat(member, members)]


class _Normalizer:
    """The normalizer, for the characters it maps one by one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._library = tokenizer.normalizer
        self._kinds = component_kinds(self._library, "normalizers")
        self.needs_neighbours = bool(self._kinds)
        self._has_graphemes = any(kind["type"] == "Precompiled" for kind in self._kinds)
        self._strips = any(kind["type"] == "Strip" for kind in self._kinds)
        self._spelled: set[str] = set()
        """Characters in multi-character texts that are replaced."""
        for kind in self._kinds:
            name = kind["type"]
            if name == "Replace":
                self._add_pattern(kind["pattern"])
            elif name not in (*CHARWISE_NORMALIZERS, "Strip", "Precompiled"):
                raise UncuttableError(f"its normalizer {name}")

    def _add_pattern(self, pattern: dict[str, str]) -> None:
        if not pattern.get("String"):
            raise UncuttableError("its normalizer replaces by a regular expression")
        if len(pattern["String"]) > 1:
            self._spelled.update(pattern["String"])

    def image(self, char: str) -> str | None:
        if not _is_plain(char) or (self._has_graphemes and not _is_alone(char)):
            return None
        image = char
        for kind in self._kinds:
            if self._spelled.intersection(image):
                return None
            if kind["type"] == "Replace" and kind["pattern"]["String"] == image:
                image = kind["content"]
        if self._library is None:
            return image
        if len(image) != 1 or self._spelled.intersection(image):
            return None
        # Between letters, because the ends may be stripped.
        framed = self._library.normalize_str(f"x{char}x")
        frame = self._library.normalize_str("x")
        return image if framed == frame + image + frame else None

    def may_cut(self, left: str, right: str) -> bool:
        """True if the normalizer treats the new ends like the middle of a text."""
        if self._has_graphemes and left + right == "\r\n":
            return False
        return not (self._strips and (left in SPACES or right in SPACES))


class _AddedTokens:
    def __init__(self, tokenizer: Tokenizer) -> None:
        tokens: list[AddedToken] = list(tokenizer.get_added_tokens_decoder().values())
        contents = [(token, token.content) for token in tokens]
        if tokenizer.normalizer is not None:
            contents += [(t, tokenizer.normalizer.normalize_str(t.content)) for t in tokens]
        self._text = _TOKENS_APART.join(content for _, content in contents)
        self._wordlike_first = {c[0] for t, c in contents if t.single_word and c}
        self._wordlike_last = {c[-1] for t, c in contents if t.single_word and c}
        self._strips_left = any(token.lstrip for token in tokens)
        self._strips_right = {c[-1] for t, c in contents if t.rstrip and c}

    def may_see(self, left: str, right: str) -> bool:
        """True if a search for added tokens at one character could see the other."""
        return (
            left + right in self._text
            or left in self._wordlike_last
            or right in self._wordlike_first
            or (self._strips_left and left in SPACES)
            or (right in SPACES and left in self._strips_right)
            or (bool(self._strips_right) and right in SPACES and left in SPACES)
        )


@dataclass(frozen=True)
class _Step:
    pattern: SplitPattern = NOTHING
    makes_borders: bool = True
    """True if a piece starts where a match starts."""
    prefixed_unless: str | None = None
    """It adds a prefix to each piece that does not start with this character."""
    prefixes_first_only: bool = False
    space_sign: str = " "
    """The character that replaces a space."""

    def rewritten(self, char: str) -> str:
        return self.space_sign if char == " " else char

    def may_begin_with(self, char: str, *, has_border: bool) -> bool:
        if self.prefixed_unless is None or char == self.prefixed_unless:
            return True
        return has_border and not self.prefixes_first_only


def _steps(kinds: list[dict[str, Any]]) -> list[_Step]:
    if any(kind["type"] == "ByteLevel" for kind in kinds[:-1]):
        raise UncuttableError("its pre-tokenizer, which splits byte-level text again")
    try:
        return [_step(kind) for kind in kinds]
    except UnsupportedPatternError as error:
        raise UncuttableError(f"its pre-tokenizer's expression: {error}") from None


_SIMPLE_STEPS = {
    "Whitespace": r"\w+|[^\w\s]+|\s",
    "WhitespaceSplit": r"\s",
    "BertPreTokenizer": r"\s|\p{P}",
}


def _step(kind: dict[str, Any]) -> _Step:
    name = kind["type"]
    behavior = kind.get("behavior", "Isolated")
    makes_borders = behavior in ("Isolated", "Removed")
    match name:
        case "ByteLevel":
            return _Step(
                SplitPattern(GPT2_PATTERN) if kind.get("use_regex", True) else NOTHING,
                prefixed_unless=" " if kind["add_prefix_space"] else None,
            )
        case "Split":
            if kind["invert"] and not makes_borders:
                raise UncuttableError(
                    "its pre-tokenizer, which splits between matches and merges them"
                )
            text, expression = kind["pattern"].get("String"), kind["pattern"].get("Regex")
            pattern = SplitPattern(expression) if text is None else literal_pattern(text)
            return _Step(pattern, makes_borders=makes_borders or behavior == "MergedWithNext")
        case "Metaspace":
            sign = kind["replacement"]
            scheme = kind.get("prepend_scheme", "always")
            return _Step(
                SplitPattern(f" |{re.escape(sign)}") if kind.get("split", True) else NOTHING,
                prefixed_unless=None if scheme == "never" else " ",
                prefixes_first_only=scheme == "first",
                space_sign=sign,
            )
        case "Digits":
            return _Step(SplitPattern(r"\p{Nd}"), makes_borders=kind["individual_digits"])
        case "CharDelimiterSplit":
            return _Step(literal_pattern(kind["delimiter"]))
        case "Punctuation":
            return _Step(SplitPattern(r"\p{P}"), makes_borders=makes_borders)
    if name in _SIMPLE_STEPS:
        return _Step(SplitPattern(_SIMPLE_STEPS[name]))
    raise UncuttableError(f"its pre-tokenizer {name}")


class _Bpe:
    """A BPE on characters, or on bytes written as characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        kinds = component_kinds(tokenizer.pre_tokenizer, "pretokenizers")
        self._tokenizer = tokenizer
        self._is_byte_level = any(kind["type"] == "ByteLevel" for kind in kinds)
        model = tokenizer.model
        self._is_local = type(model).__name__ == "BPE" and not (
            model.ignore_merges
            or model.dropout
            or model.continuing_subword_prefix
            or model.end_of_word_suffix
        )
        """True if merges depend only on neighbours."""

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return self._tokenizer.get_vocab(with_added_tokens=False)

    @cached_property
    def _text(self) -> str:
        return _TOKENS_APART.join(self._vocabulary)

    def keeps_apart(self, left: str, right: str) -> bool:
        if not self._is_local:
            return False
        if self._is_byte_level:
            left = BYTE_SIGNS[left.encode()[-1]]
            right = BYTE_SIGNS[right.encode()[0]]
        is_known = left in self._vocabulary and right in self._vocabulary
        return is_known and left + right not in self._text


def _is_plain(char: str) -> bool:
    """True for a starter that composes with nothing before it, in every version of Unicode.

    The starters that do compose so are vowel signs (Mc), marks (Mn) and the jamo of Hangul.
    """
    if char.isascii():
        return char.isprintable() or char in "\n\r\t"
    category = unicodedata.category(char)
    return (
        category in PLAIN_CATEGORIES
        and unicodedata.ucd_3_2_0.category(char) == category
        and not "\u1100" <= char <= "\u11ff"
    )


def _is_alone(char: str) -> bool:
    """True if it is its own grapheme cluster between others of its kind."""
    return char.isascii() or any(low <= char <= high for low, high in _ALONE)


_ALONE = (("\u3001", "\u3011"), ("\u3041", "\u3096"), ("\u30a1", "\u30fa"), ("\u4e00", "\u9fa5"))
"""Punctuation, kana and Han."""
