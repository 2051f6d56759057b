"""Which known word was meant: "did you mean" for keys, choices, stages, models and files.

A slip of the hand is one letter missing, too many, wrong, or two that changed places. Of words
that are as near, one of the same letters is meant (`rpetrain` is `pretrain`, not `retrain`), then
the one with more of the typed letters in their places (`pythia-16m` is rather `pythia-160m` than
`pythia-14m`).
"""

import difflib
from collections.abc import Iterable

MAX_LENGTH = 100
"""Letters of a word that are compared: longer ones are no names."""
LONG_WORD = 6
"""From this length on, two slips still leave a word recognisable."""
MIN_RATIO = 0.7
"""Of words that are no slip apart, how alike they have to be (difflib's ratio)."""
MIN_STEM = 4
"""Letters of the first part of a name by which the whole is known: `keep` is `keep_last`."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` to end a message with; empty when no known word is near."""
    meant = closest(word, known)
    return f"; did you mean {meant!r}?" if meant else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`; None when none is near."""
    words = list(dict.fromkeys(known))
    return nearest(word, words) or _alike(word, words)


def nearest(word: str, known: Iterable[str], max_slips: int = 2) -> str | None:
    """The known word that `word` is a slip or two away from; None when there is none."""
    plain = _plain(word)
    if not 0 < len(word) <= MAX_LENGTH:
        return None
    bound = max_slips if len(plain) >= LONG_WORD else 1
    ranked = [
        (distance, *_unlikeness(plain, _plain(candidate)), number, candidate)
        for number, candidate in enumerate(known)
        if abs(len(candidate) - len(word)) <= bound
        and (distance := _num_slips(plain, _plain(candidate))) <= bound
    ]
    return min(ranked)[-1] if ranked else None


def _alike(word: str, known: list[str]) -> str | None:
    found = difflib.get_close_matches(word[:MAX_LENGTH], known, n=1, cutoff=MIN_RATIO)
    return found[0] if found else next((name for name in known if _has_stem(word, name)), None)


def _has_stem(word: str, name: str) -> bool:
    """Whether the word begins as the name of several parts does, or is its beginning."""
    stem, _, rest = _plain(name).partition("_")
    is_beginning = _plain(name).startswith(f"{_plain(word)}_")
    return len(stem) >= MIN_STEM and (is_beginning or bool(rest and _plain(word).startswith(stem)))


def _plain(word: str) -> str:
    """Case, and which line joins the parts of a word, make no difference to a reader."""
    return word.casefold().replace("-", "_").rstrip("_")


def _unlikeness(word: str, other: str) -> tuple[bool, int]:
    """Orders words that are as far away."""
    return sorted(word) != sorted(other), -_letters_in_place(word, other)


def _letters_in_place(word: str, other: str) -> int:
    """Letters that agree from the front and from the back, none counted twice."""
    shorter = min(len(word), len(other))
    front = next((n for n in range(shorter) if word[n] != other[n]), shorter)
    rest = shorter - front
    return front + next((n for n in range(rest) if word[-1 - n] != other[-1 - n]), rest)


def _num_slips(word: str, other: str) -> int:
    """Slips from one word to the other: the optimal string alignment distance."""
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
