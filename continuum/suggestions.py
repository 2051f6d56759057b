"""Suggestions for misspelled words: "did you mean" for keys, choices, stages, models and files.

A typo is one letter missing, extra, wrong, or swapped with the next. Among words at the same
distance, one with the same letters wins (`rpetrain` is `pretrain`, not `retrain`), then the one
with more of the typed letters in place (`pythia-16m` is `pythia-160m` rather than `pythia-14m`).
"""

import difflib
from collections.abc import Iterable

MAX_LENGTH = 100
"""Longer words are not names, and are not compared."""
MIN_LENGTH_FOR_TWO = 6
"""Words of this length may have two typos."""
MIN_RATIO = 0.7
"""Minimum similarity (difflib's ratio) of words with more typos."""
MIN_STEM = 4
"""Minimum length of the first part of a name to suggest the name: `keep` is `keep_last`."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the end of a message; empty if no known word is close."""
    meant = closest(word, known)
    return f"; did you mean {meant!r}?" if meant else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most similar to `word`; None if none is close."""
    words = list(dict.fromkeys(known))
    return nearest(word, words) or _alike(word, words)


def nearest(word: str, known: Iterable[str], max_typos: int = 2) -> str | None:
    """Return the known word that is one or two typos away from `word`; None if there is none."""
    plain = _plain(word)
    if not 0 < len(word) <= MAX_LENGTH:
        return None
    bound = max_typos if len(plain) >= MIN_LENGTH_FOR_TWO else 1
    ranked = [
        (distance, *_unlikeness(plain, _plain(candidate)), number, candidate)
        for number, candidate in enumerate(known)
        if abs(len(candidate) - len(word)) <= bound
        and (distance := _num_typos(plain, _plain(candidate))) <= bound
    ]
    return min(ranked)[-1] if ranked else None


def _alike(word: str, known: list[str]) -> str | None:
    found = difflib.get_close_matches(word[:MAX_LENGTH], known, n=1, cutoff=MIN_RATIO)
    return found[0] if found else next((name for name in known if _has_stem(word, name)), None)


def _has_stem(word: str, name: str) -> bool:
    """True if the word starts with the first part of the name, or is the start of the name."""
    stem, _, rest = _plain(name).partition("_")
    is_beginning = _plain(name).startswith(f"{_plain(word)}_")
    return len(stem) >= MIN_STEM and (is_beginning or bool(rest and _plain(word).startswith(stem)))


def _plain(word: str) -> str:
    """The word without case, and with one sign between its parts."""
    return word.casefold().replace("-", "_").rstrip("_")


def _unlikeness(word: str, other: str) -> tuple[bool, int]:
    """The sort key of words at the same distance."""
    return sorted(word) != sorted(other), -_letters_in_place(word, other)


def _letters_in_place(word: str, other: str) -> int:
    """Number of letters that agree from the front and from the back."""
    shorter = min(len(word), len(other))
    front = next((n for n in range(shorter) if word[n] != other[n]), shorter)
    rest = shorter - front
    return front + next((n for n in range(rest) if word[-1 - n] != other[-1 - n]), rest)


def _num_typos(word: str, other: str) -> int:
    """The optimal string alignment distance."""
    before: list[int] = []
    above = list(range(len(other) + 1))
    for row, letter in enumerate(word, 1):
        here = [row]
        for column, wanted in enumerate(other, 1):
            cost = min(
                above[column] + 1, here[column - 1] + 1, above[column - 1] + (letter != wanted)
            )
            swapped = row > 1 and column > 1 and letter == other[column - 2]
            if swapped and word[row - 2] == wanted:
                cost = min(cost, before[column - 2] + 1)
            here.append(cost)
        before, above = above, here
    return above[-1]
