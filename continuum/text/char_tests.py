"""Which characters a class of a regular expression holds, as far as any version of Unicode goes."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator

Test = Callable[[str], bool | None]
"""Whether a class holds a character; None where only the library's own tables know."""

SPACES = frozenset(
    " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
)
LONG_NAMES = {
    "letter": "l",
    "number": "n",
    "punctuation": "p",
    "punct": "p",
    "symbol": "s",
    "separator": "z",
    "mark": "m",
    "other": "c",
}
CATEGORIES = {
    *("l", "lu", "ll", "lt", "lm", "lo", "m", "mn", "mc", "me", "n", "nd", "nl", "no", "p", "pc"),
    *("pd", "ps", "pe", "pi", "pf", "po", "s", "sm", "sc", "sk", "so", "z", "zs", "zl", "zp", "c"),
    *("cc", "cf", "cs", "co", "cn"),
}


def category_test(name: str) -> Test:
    """The test of a general category, by its short or long name; of a script, nothing is known."""
    key = name.strip().lower()
    short = LONG_NAMES.get(key, key)
    if short not in CATEGORIES:
        return unknown
    return lambda char: unicodedata.category(char).lower().startswith(short)


def one_of(chars: Iterable[str]) -> Test:
    """The test of a list of characters."""
    members = frozenset(chars)
    return lambda char: char in members


def between(low: str, high: str) -> Test:
    """The test of a range."""
    return lambda char: low <= char <= high


def unknown(char: str) -> bool | None:  # noqa: ARG001 - a test like the others
    """The test of a class that is not known here."""
    return None


def anything(char: str) -> bool | None:  # noqa: ARG001 - a test like the others
    """The test of a class of all characters."""
    return True


def is_space(char: str) -> bool:
    """`\\s`."""
    return char in SPACES


def is_word(char: str) -> bool | None:
    """`\\w`."""
    category = unicodedata.category(char)
    if category in ("Nl", "No"):
        return None
    return category[0] in "LM" or category in ("Nd", "Pc")


def negated(test: Test) -> Test:
    """The test of all other characters."""

    def opposite(char: str) -> bool | None:
        found = test(char)
        return None if found is None else not found

    return opposite


def either(tests: list[Test]) -> Test:
    """The test of a union."""

    def union(char: str) -> bool | None:
        found = {test(char) for test in tests}
        return True if True in found else None if None in found else False

    return union


def both(tests: list[Test]) -> Test:
    """The test of an intersection."""
    return negated(either([negated(test) for test in tests]))


def without_case(test: Test) -> Test:
    """The test where case is ignored: which of a letter's forms match, only the library knows."""

    def folded(char: str) -> bool | None:
        found = {test(form) for form in (char, *_case_forms(char))}
        return found.pop() if len(found) == 1 else None

    return folded


def _case_forms(char: str) -> Iterator[str]:
    for text in (char.lower(), char.upper(), char.title(), char.casefold()):
        yield from text
        yield from text.lower()
        yield from text.upper()
