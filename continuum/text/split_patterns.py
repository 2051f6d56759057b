"""Which neighbouring characters a pre-tokenizer's regular expression can hold in one match.

The positions of an expression and which may follow which (Glushkov's construction) tell, without
running it, whether any match may hold two characters side by side, or look from one at the other.
Where none may, an engine that reads on from `a` at the end of a text and one that reads `ab` fail
at the same step, so what is matched before the place is the same with and without what follows.
The language is taken larger than it is, never smaller: counts are loops, a look ahead is read as
text that may follow. What cannot be read so (looking behind, anchors, back references) is refused.
"""

from dataclasses import dataclass
from functools import reduce

from continuum.text.char_tests import Test
from continuum.text.pattern_syntax import (
    Ahead,
    InTurn,
    Node,
    One,
    OneOf,
    Repeat,
    UnsupportedPatternError,
    parse_pattern,
)


@dataclass(frozen=True)
class _Ends:
    """Where a part of an expression begins and ends."""

    is_nullable: bool
    first: frozenset[int]
    last: frozenset[int]
    ahead: frozenset[int] = frozenset()
    """What may be looked at from its beginning."""


class SplitPattern:
    """A regular expression, as far as its pairs of neighbours go."""

    def __init__(self, pattern: str) -> None:
        """Raises UnsupportedPatternError."""
        self._root = parse_pattern(pattern)
        self._tests: list[Test] = []
        self._follows: set[tuple[int, int]] = set()
        if self._ends(self._root).is_nullable:
            raise UnsupportedPatternError("it matches the empty text")

    def may_hold(self, left: str, right: str) -> bool:
        """Whether a match may hold these two characters side by side, or look across them."""
        before = {i for i, test in enumerate(self._tests) if test(left) is not False}
        after = {i for i, test in enumerate(self._tests) if test(right) is not False}
        return any(i in before and j in after for i, j in self._follows)

    def surely_matches(self, char: str) -> bool:
        """Whether a match begins at this character, whatever follows it."""
        branches = self._root.nodes if isinstance(self._root, OneOf) else (self._root,)
        return any(_is_single(branch, char) for branch in branches)

    def _ends(self, node: Node) -> _Ends:
        match node:
            case One(test):
                self._tests.append(test)
                own = frozenset([len(self._tests) - 1])
                return _Ends(False, own, own)
            case Ahead(inner):
                return _Ends(True, frozenset(), frozenset(), self._ends_of_ahead(inner))
            case Repeat(inner, least, most):
                ends = self._ends(inner)
                if most is None or most > 1:
                    self._link(ends.last, ends)
                return _Ends(least == 0 or ends.is_nullable, ends.first, ends.last, ends.ahead)
            case OneOf(nodes):
                parts = [self._ends(inner) for inner in nodes]
                return _Ends(
                    any(part.is_nullable for part in parts),
                    frozenset().union(*(part.first for part in parts)),
                    frozenset().union(*(part.last for part in parts)),
                    frozenset().union(*(part.ahead for part in parts)),
                )
            case InTurn(nodes):
                nothing = _Ends(True, frozenset(), frozenset())
                return reduce(self._joined, map(self._ends, nodes), nothing)

    def _ends_of_ahead(self, inner: Node) -> frozenset[int]:
        ends = self._ends(inner)
        return ends.first | ends.ahead

    def _joined(self, left: _Ends, right: _Ends) -> _Ends:
        self._link(left.last, right)
        return _Ends(
            left.is_nullable and right.is_nullable,
            left.first | (right.first if left.is_nullable else frozenset()),
            right.last | (left.last if right.is_nullable else frozenset()),
            left.ahead | (right.ahead if left.is_nullable else frozenset()),
        )

    def _link(self, last: frozenset[int], following: _Ends) -> None:
        self._follows |= {(i, j) for i in last for j in following.first | following.ahead}


def literal_pattern(text: str) -> SplitPattern:
    """The pattern of a fixed text."""
    return SplitPattern("".join(f"\\x{{{ord(char):x}}}" for char in text))


def _is_single(node: Node, char: str) -> bool:
    """Whether this character alone is in the language, on a path without conditions."""
    match node:
        case One(test):
            return test(char) is True
        case OneOf(nodes):
            return any(_is_single(inner, char) for inner in nodes)
        case Repeat(inner, least, _, gives_back):
            # One that gives nothing back may take what follows, and keep it.
            return least <= 1 and _is_single(inner, char) and (gives_back or isinstance(inner, One))
        case InTurn(nodes):
            if len(nodes) == 1:
                return _is_single(nodes[0], char)
            if any(isinstance(inner, Repeat) and not inner.gives_back for inner in nodes):
                return False
            return any(
                _is_single(inner, char)
                and all(_may_be_empty(other) for other in (*nodes[:i], *nodes[i + 1 :]))
                for i, inner in enumerate(nodes)
            )
        case Ahead():
            return False


def _may_be_empty(node: Node) -> bool:
    match node:
        case Repeat(inner, least):
            return least == 0 or _may_be_empty(inner)
        case OneOf(nodes):
            return any(map(_may_be_empty, nodes))
        case InTurn(nodes):
            return all(map(_may_be_empty, nodes))
        case One() | Ahead():
            return False
