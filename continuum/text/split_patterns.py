"""Decides which neighbouring characters one match of a pre-tokenizer's pattern can contain.

The positions of an expression and which may follow which (Glushkov's construction) show, without
running it, whether a match may contain two adjacent characters, or look from one at the other.
Where none may, an engine that reads on from `a` at the end of a text and one that reads `ab` fail
at the same step, so what is matched before the place is the same with and without what follows.
The language is taken larger than it is, never smaller: counts are loops, a look ahead is read as
text that may follow. Look-behind, anchors and back references are not supported.

Python's own parser reads the expression. What it does not know of Oniguruma's syntax for Ruby,
which `tokenizers` uses, is replaced before: classes become characters for private use.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from re import _constants as sre  # type: ignore[attr-defined]  # typeshed has its older name alone
from re import _parser  # type: ignore[attr-defined]
from typing import Any

Test = Callable[[str], bool | None]
"""Whether a class contains a character; None if only the library's own tables know."""

SPACES = frozenset(
    " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
)
LONG_NAMES = {
    **{"letter": "l", "number": "n", "punctuation": "p", "punct": "p", "symbol": "s"},
    **{"separator": "z", "mark": "m", "other": "c"},
}
_CATEGORY = re.compile(r"l[ultmo]?|m[nce]?|n[dlo]?|p[cdseifo]?|s[mcko]?|z[slp]?|c[cfson]?")
FIRST_CLASS = 0x100000
"""The first of the characters that represent classes."""
_SIGN = re.compile(
    r"\\[pP]\{(?P<name>[^}]*)\}|\\[xu]\{(?P<code>[0-9A-Fa-f]{1,6})\}"
    r"|\{(?P<least>\d*),?\d*\}\+|\\?.",
    re.DOTALL,
)
_ONE = (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY)
_ANCHORS = {
    **{sre.AT_BEGINNING: "'^'", sre.AT_BEGINNING_STRING: r"\A"},
    **{sre.AT_BOUNDARY: r"\b", sre.AT_NON_BOUNDARY: r"\B"},
}
_OTHERS = {sre.ASSERT: "(?<=", sre.ASSERT_NOT: "(?<!", sre.GROUPREF: "a back reference"}
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)


class UnsupportedPatternError(Exception):
    """The expression cannot be analysed; the message names the unsupported part."""


@dataclass(frozen=True)
class _Part:
    """A part of an expression by its positions; empty by default."""

    first: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()
    ahead: frozenset[int] = frozenset()
    """Positions of look-ahead from its start."""
    alone: frozenset[int] = frozenset()
    """Positions that match on their own, whatever follows."""
    is_nullable: bool = True
    is_skippable: bool = True
    """True if it may be empty unconditionally."""
    gives_back: bool = True
    """False for possessive quantifiers and atomic groups."""


class SplitPattern:
    """The pairs of neighbours that a regular expression can match."""

    def __init__(self, pattern: str) -> None:
        """Raises UnsupportedPatternError."""
        self._classes = _Classes()
        tree = self._classes.parse(self._classes.translate(pattern))
        if tree.state.flags & ~(re.IGNORECASE | re.UNICODE):
            raise UnsupportedPatternError("flags other than (?i) are not supported")
        self._tests: list[Test] = []
        self._follows: set[tuple[int, int]] = set()
        self._positions: dict[str, frozenset[int]] = {}
        self._root = self._part(tree, folds_case=bool(tree.state.flags & re.IGNORECASE))
        if self._root.is_nullable:
            raise UnsupportedPatternError("it matches the empty text")

    def may_hold(self, left: str, right: str) -> bool:
        """True if a match may contain these two characters side by side, or look across them."""
        before, after = self._positions_of(left), self._positions_of(right)
        return any(i in before and j in after for i, j in self._follows)

    def surely_matches(self, char: str) -> bool:
        """True if a match starts at this character, whatever follows."""
        return any(self._tests[i](char) is True for i in self._root.alone)

    def _positions_of(self, char: str) -> frozenset[int]:
        if char not in self._positions:
            tests = enumerate(self._tests)
            self._positions[char] = frozenset(i for i, test in tests if test(char) is not False)
        return self._positions[char]

    def _part(self, items: Any, *, folds_case: bool) -> _Part:
        parts = [self._item(op, arg, folds_case=folds_case) for op, arg in items]
        return parts[0] if len(parts) == 1 else reduce(self._joined, parts, _Part())

    def _item(self, op: Any, arg: Any, *, folds_case: bool) -> _Part:
        if op in _ONE:
            return self._one(self._classes.test(op, arg, folds_case=folds_case))
        if op is sre.BRANCH:
            parts = [self._part(items, folds_case=folds_case) for items in arg[1]]
            return _Part(
                frozenset().union(*(part.first for part in parts)),
                frozenset().union(*(part.last for part in parts)),
                frozenset().union(*(part.ahead for part in parts)),
                frozenset().union(*(part.alone for part in parts)),
                any(part.is_nullable for part in parts),
                any(part.is_skippable for part in parts),
            )
        if op is sre.SUBPATTERN:
            _, flags, removed, items = arg
            if removed or flags & ~re.IGNORECASE:
                raise UnsupportedPatternError("flags other than (?i: are not supported")
            return self._part(items, folds_case=folds_case or bool(flags))
        if op in _REPEATS:
            return self._repeated(op, *arg, folds_case=folds_case)
        if op is sre.ATOMIC_GROUP:
            return _kept(self._part(arg, folds_case=folds_case))
        if op in (sre.ASSERT, sre.ASSERT_NOT) and arg[0] > 0:
            inner = self._part(arg[1], folds_case=folds_case)
            return _Part(ahead=inner.first | inner.ahead, is_skippable=False)
        if op is sre.AT and arg not in _ANCHORS:
            return _Part(ahead=self._one(lambda _: True).first, is_skippable=False)
        sign = _ANCHORS[arg] if op is sre.AT else _OTHERS.get(op, op)
        raise UnsupportedPatternError(f"{sign} is not supported")

    def _repeated(self, op: Any, least: int, most: int, items: Any, *, folds_case: bool) -> _Part:
        # After a fixed count, `?` makes the group optional instead of lazy.
        least = 0 if op is sre.MIN_REPEAT and least == most else least
        inner = self._part(items, folds_case=folds_case)
        if most > 1:
            self._link(inner.last, inner)
        found = replace(
            inner,
            alone=inner.alone if least <= 1 else frozenset(),
            is_nullable=least == 0 or inner.is_nullable,
            is_skippable=least == 0 or inner.is_skippable,
        )
        if op is not sre.POSSESSIVE_REPEAT:
            return replace(found, gives_back=True)
        is_one = len(items) == 1 and items[0][0] in _ONE
        return replace(found, gives_back=False) if is_one else _kept(found)

    def _one(self, test: Test) -> _Part:
        self._tests.append(test)
        own = frozenset([len(self._tests) - 1])
        return _Part(own, own, alone=own, is_nullable=False, is_skippable=False)

    def _joined(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right)
        nothing: frozenset[int] = frozenset()
        gives_back = left.gives_back and right.gives_back
        alone = (left.alone if right.is_skippable else nothing) | (
            right.alone if left.is_skippable else nothing
        )
        return _Part(
            left.first | (right.first if left.is_nullable else nothing),
            right.last | (left.last if right.is_nullable else nothing),
            left.ahead | (right.ahead if left.is_nullable else nothing),
            alone if gives_back else nothing,
            left.is_nullable and right.is_nullable,
            left.is_skippable and right.is_skippable,
            gives_back,
        )

    def _link(self, last: frozenset[int], following: _Part) -> None:
        self._follows |= {(i, j) for i in last for j in following.first | following.ahead}


def _kept(part: _Part) -> _Part:
    """A group without backtracking: it may match what follows, and keep it."""
    return replace(part, alone=frozenset(), gives_back=False)


def literal_pattern(text: str) -> SplitPattern:
    """The pattern of a fixed text."""
    return SplitPattern(re.escape(text))


class _Classes:
    """The classes of an expression, each represented by a character."""

    def __init__(self) -> None:
        self._tests: list[Test] = []
        self._with_other_letters: set[int] = set()
        """Classes that name characters beyond ASCII."""

    def parse(self, text: str) -> Any:
        """Parse a translated expression with Python's parser."""
        try:
            return _parser.parse(text)
        except (re.error, OverflowError) as error:
            raise UnsupportedPatternError(str(error)) from None

    def test(self, op: Any, arg: Any, *, folds_case: bool) -> Test:
        """The test of one position."""
        if not folds_case:
            return lambda char: self._holds(op, arg, char)
        if self._names_other_letters(op, arg):
            # Case folding may expand to several characters: ignoring case, "ß" matches "ss".
            raise UnsupportedPatternError("case-insensitive letters beyond ASCII")

        def folded(char: str) -> bool | None:
            # Only the library knows which of a letter's forms match.
            found = {self._holds(op, arg, form) for form in (char, *_case_forms(char))}
            return found.pop() if len(found) == 1 else None

        return folded

    def translate(self, pattern: str) -> str:
        """The expression with each class replaced by a character."""
        if max(pattern, default="") >= chr(FIRST_CLASS):
            raise UnsupportedPatternError("private-use characters")
        signs = iter(_SIGN.finditer(pattern))
        return "".join(self._sign(sign, signs) for sign in signs)

    def _sign(self, sign: re.Match[str], following: Iterator[re.Match[str]]) -> str:
        text = sign[0]
        if sign["name"] is not None:
            name = sign["name"]
            test = _category_test(name.removeprefix("^"))
            is_negated = (text[1] == "P") is not name.startswith("^")
            return self._add((lambda char: _not(test(char))) if is_negated else test)
        if sign["code"] is not None:
            if (code := int(sign["code"], 16)) >= FIRST_CLASS:
                raise UnsupportedPatternError("private-use characters")
            return re.escape(chr(code))
        if sign["least"] is not None:
            # Possessive in Python, but repeated `{…}` in Oniguruma.
            return f"{{{sign['least'] or 0},}}+"
        if text == "[":
            return self._class(following)
        if text[0] == "\\" and text[1:] in ("", *"pPUN"):
            raise UnsupportedPatternError(f"{text} is not supported")
        return r"\Z" if text == r"\z" else text

    def _class(self, signs: Iterator[re.Match[str]]) -> str:
        """A class, which may contain others or an intersection (`&&`)."""
        leaves = [""]
        is_negated = False
        for number, sign in enumerate(signs):
            text = sign[0]
            if text == "^" and number == 0:
                is_negated = True
            elif text == "]" and (leaves != [""]):
                break
            elif text == "&" and leaves[-1].endswith(r"\&"):
                leaves[-1] = leaves[-1].removesuffix(r"\&")
                leaves.append("")
            elif text in (*"&~|^]", r"\&"):
                leaves[-1] += r"\x26" if text == r"\&" else f"\\{text}"
            elif sign["least"] is not None or (text == ":" and number == 0):
                raise UnsupportedPatternError(f"{text} is not supported in a class")
            else:
                leaves[-1] += self._sign(sign, signs)
        else:
            raise UnsupportedPatternError("unterminated class")
        items = [self._leaf(leaf) for leaf in leaves]

        def test(char: str) -> bool | None:
            found = _not(_any({_not(self._holds(item[0], item[1], char)) for item in items}))
            return _not(found) if is_negated else found

        return self._add(test, has_others=any(self._names_other_letters(*it) for it in items))

    def _leaf(self, text: str) -> Any:
        if "--" in text:
            raise UnsupportedPatternError("'--' is not supported in a class")
        (item,) = self.parse(f"[{text}]")
        ranges = [arg for op, arg in item[1] if op is sre.RANGE] if item[0] is sre.IN else []
        if any(high >= FIRST_CLASS for _, high in ranges):
            raise UnsupportedPatternError("unsupported range")
        return item

    def _add(self, test: Test, *, has_others: bool = False) -> str:
        self._tests.append(test)
        code = FIRST_CLASS + len(self._tests) - 1
        if has_others:
            self._with_other_letters.add(code)
        return chr(code)

    def _holds(self, op: Any, arg: Any, char: str) -> bool | None:
        if op is sre.LITERAL:
            return self._tests[arg - FIRST_CLASS](char) if arg >= FIRST_CLASS else char == chr(arg)
        if op is sre.NOT_LITERAL:
            return _not(self._holds(sre.LITERAL, arg, char))
        if op is sre.RANGE:
            return bool(arg[0] <= ord(char) <= arg[1])
        if op is sre.ANY:
            return True if char != "\n" else None
        if op is sre.CATEGORY:
            name = str(arg).removeprefix("CATEGORY_")
            found = _SHORT[name.removeprefix("NOT_")](char)
            return _not(found) if name.startswith("NOT_") else found
        found = _any(
            {self._holds(item[0], item[1], char) for item in arg if item[0] is not sre.NEGATE}
        )
        return _not(found) if arg[0][0] is sre.NEGATE else found

    def _names_other_letters(self, op: Any, arg: Any) -> bool:
        if op in (sre.LITERAL, sre.NOT_LITERAL):
            return arg in self._with_other_letters or 0x7F < arg < FIRST_CLASS
        if op is sre.RANGE:
            return bool(arg[1] > 0x7F)
        return op is sre.IN and any(self._names_other_letters(*item) for item in arg)


def _not(found: bool | None) -> bool | None:
    return None if found is None else not found


def _any(found: set[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _category_test(name: str) -> Test:
    """The test of a general category, by its short or long name; scripts are unknown."""
    key = name.strip().lower()
    short = LONG_NAMES.get(key, key)
    if _CATEGORY.fullmatch(short) is None:
        return lambda _: None
    return lambda char: unicodedata.category(char).lower().startswith(short)


def _is_word(char: str) -> bool | None:
    category = unicodedata.category(char)
    if category in ("Nl", "No"):
        return None
    return category[0] in "LM" or category in ("Nd", "Pc")


_SHORT: dict[str, Test] = {
    "SPACE": lambda char: char in SPACES,
    "DIGIT": _category_test("Nd"),
    "WORD": _is_word,
}
"""`\\s`, `\\d` and `\\w`."""


def _case_forms(char: str) -> Iterator[str]:
    for text in (char.lower(), char.upper(), char.title(), char.casefold()):
        yield from text + text.lower() + text.upper()
