"""The regular expressions of pre-tokenizers, read into a tree.

The syntax is Oniguruma's for Ruby, which `tokenizers` uses.
"""

from dataclasses import dataclass

from continuum.text.char_tests import (
    Test,
    anything,
    between,
    both,
    category_test,
    either,
    is_space,
    is_word,
    negated,
    one_of,
    unknown,
    without_case,
)

SIMPLE_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b"}


class UnsupportedPatternError(Exception):
    """The expression cannot be analysed; the message says what in it."""


@dataclass(frozen=True)
class One:
    """A character of a class."""

    test: Test


@dataclass(frozen=True)
class InTurn:
    """One after another."""

    nodes: tuple["Node", ...]


@dataclass(frozen=True)
class OneOf:
    """The first of some that leads to a match."""

    nodes: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """So many times, as often as possible or as seldom."""

    node: "Node"
    least: int
    most: int | None
    gives_back: bool
    """False for possessive quantifiers and atomic groups."""


@dataclass(frozen=True)
class Ahead:
    """A look at what follows, for it or against it."""

    node: "Node"


Node = One | InTurn | OneOf | Repeat | Ahead


def parse_pattern(pattern: str) -> Node:
    """The tree of an expression.

    Raises:
        UnsupportedPatternError: it looks behind or has other parts that are not known here.
    """
    return _Parser(pattern).parse()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._folds_case = False

    def parse(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._pattern):
            raise UnsupportedPatternError(f"{self._pattern[self._at :]!r} cannot be read")
        return node

    def _peek(self, text: str) -> bool:
        return self._pattern.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        found = self._peek(text)
        self._at += len(text) if found else 0
        return found

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise UnsupportedPatternError("it ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _until(self, end: str) -> str:
        stop = self._pattern.find(end, self._at)
        if stop < 0:
            raise UnsupportedPatternError(f"{end!r} is missing")
        text = self._pattern[self._at : stop]
        self._at = stop + len(end)
        return text

    def _alternatives(self) -> Node:
        folds_case = self._folds_case
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._folds_case = folds_case
        return branches[0] if len(branches) == 1 else OneOf(tuple(branches))

    def _sequence(self) -> Node:
        nodes: list[Node] = []
        while self._at < len(self._pattern) and not self._peek("|") and not self._peek(")"):
            node = self._atom()
            if node is not None:
                nodes.append(self._quantified(node))
        return InTurn(tuple(nodes))

    def _quantified(self, node: Node) -> Node:
        while self._at < len(self._pattern):
            is_interval = self._peek("{")
            bounds = self._quantifier()
            if bounds is None:
                break
            least, most = bounds
            if self._take("?"):
                # Of a fixed count this does not make the loop lazy, but the whole optional.
                node = Repeat(node, 0 if least == most else least, most, gives_back=True)
            elif not is_interval and self._take("+"):
                node = Repeat(node, least, most, gives_back=False)
            else:
                node = Repeat(node, least, most, gives_back=True)
        return node

    def _quantifier(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("?", (0, 1)), ("*", (0, None)), ("+", (1, None))):
            if self._take(sign):
                return bounds
        if not self._peek("{"):
            return None
        self._at += 1
        least, comma, most = self._until("}").partition(",")
        if not (least.isdigit() or (not least and comma)) or (most and not most.isdigit()):
            raise UnsupportedPatternError("a quantifier cannot be read")
        return int(least or 0), (int(most) if most else None) if comma else int(least)

    def _atom(self) -> Node | None:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return One(self._folded(self._class()))
        if char == ".":
            return One(either([negated(one_of("\n")), unknown]))
        if char == "$":
            return Ahead(One(anything))
        if char == "^" or char in "?*+":
            raise UnsupportedPatternError(f"{char!r} cannot be read here")
        if char == "\\" and self._pattern[self._at : self._at + 1] in ("z", "Z"):
            self._at += 1
            return Ahead(One(anything))
        return One(self._folded(self._escape() if char == "\\" else self._same(char)))

    def _group(self) -> Node | None:
        if not self._take("?"):
            return self._closed()
        for sign in ("=", "!"):
            if self._take(sign):
                return Ahead(self._closed())
        if self._take(">"):
            return Repeat(self._closed(), 1, 1, gives_back=False)
        flags = ""
        while not self._peek(":") and not self._peek(")"):
            flags += self._next()
        if flags not in ("", "i"):
            raise UnsupportedPatternError(f"(?{flags} cannot be read")
        outer = self._folds_case
        self._folds_case = outer or flags == "i"
        if self._take(")"):
            return None
        self._at += 1
        node = self._closed()
        self._folds_case = outer
        return node

    def _closed(self) -> Node:
        node = self._alternatives()
        if not self._take(")"):
            raise UnsupportedPatternError("')' is missing")
        return node

    def _folded(self, test: Test) -> Test:
        return without_case(test) if self._folds_case else test

    def _class(self) -> Test:
        is_negated = self._take("^")
        parts: list[list[Test]] = [[]]
        is_first = True
        while is_first or not self._take("]"):
            if self._peek("[:"):
                raise UnsupportedPatternError("a class by name cannot be read")
            if self._take("&&"):
                parts.append([])
            elif self._take("["):
                parts[-1].append(self._class())
            else:
                parts[-1].append(self._member())
            is_first = False
        test = both([either(part) for part in parts])
        return negated(test) if is_negated else test

    def _member(self) -> Test:
        char = self._next()
        if char == "\\":
            start = self._at
            test = self._escape()
            low = self._literal_at(start)
            if low is None:
                return test
        else:
            low = char
        if not self._peek("-") or self._pattern[self._at + 1 : self._at + 2] in ("]", ""):
            return self._same(low)
        self._at += 1
        high = self._next()
        if high == "\\":
            start = self._at
            self._escape()
            escaped = self._literal_at(start)
            if escaped is None:
                raise UnsupportedPatternError("a range cannot be read")
            high = escaped
        self._same(high)
        return between(low, high)

    def _literal_at(self, start: int) -> str | None:
        """The character that the escape from `start` to here writes; None if it is a class."""
        text = self._pattern[start : self._at]
        if text[0] in "sSdDwWpP":
            return None
        if text[0] in "xu" and len(text) > 1:
            return chr(int(text[1:].strip("{}"), 16))
        return SIMPLE_ESCAPES.get(text, text)

    def _escape(self) -> Test:
        char = self._next()
        if char in "sSdDwW":
            test = {"s": is_space, "d": category_test("Nd"), "w": is_word}[char.lower()]
            return negated(test) if char.isupper() else test
        if char in "pP":
            return self._property(is_negated=char == "P")
        if char in "xu":
            return self._same(self._code_point(2 if char == "x" else 4))
        if char in SIMPLE_ESCAPES:
            return self._same(SIMPLE_ESCAPES[char])
        if char.isalnum():
            raise UnsupportedPatternError(f"\\{char} cannot be read")
        return self._same(char)

    def _code_point(self, num_digits: int) -> str:
        if self._take("{"):
            digits = self._until("}")
        else:
            digits = self._pattern[self._at : self._at + num_digits]
            self._at += num_digits
        try:
            return chr(int(digits, 16))
        except ValueError:
            raise UnsupportedPatternError(f"{digits!r} is no character") from None

    def _same(self, expected: str) -> Test:
        if self._folds_case and not expected.isascii():
            # Its other forms may be several characters: without case, "ß" matches "ss".
            raise UnsupportedPatternError(f"{expected!r} without case")
        return one_of(expected)

    def _property(self, *, is_negated: bool) -> Test:
        if self._take("{"):
            name = self._until("}")
            is_negated ^= name.startswith("^")
            name = name.removeprefix("^")
        else:
            raise UnsupportedPatternError("\\p without braces cannot be read")
        test = category_test(name)
        return negated(test) if is_negated else test
