# ruff: noqa: RUF001
"""Where a text is divided: the best kind of border near the place, and in it the nearest."""

import time

import pytest

from continuum.text.borders import is_grapheme_border, nearest_border

BETTER = [" word", ". A sentence", "\nA line", "\n\nA paragraph"]
"""Borders of each kind, the worst first; all are eight characters away from the next."""


def cut(text: str, exact: int, margin: int = 40) -> tuple[str, str]:
    place = nearest_border(text, exact, margin)
    assert place is not None
    return text[:place], text[place:]


@pytest.mark.parametrize("best", range(len(BETTER)))
def test_the_best_kind_of_border_wins_over_the_nearest(best: int) -> None:
    text = "x" * 20 + "".join(f"{border:x<14}" for border in reversed(BETTER[: best + 1]))
    exact = len(text) - 1
    before, after = cut(text, exact, margin=len(text))
    kind = BETTER[best]
    assert text == before + after
    assert after.startswith(kind.lstrip(".\n"))
    assert before.endswith(kind[: len(kind) - len(kind.lstrip(".\n"))])


def test_of_equal_borders_the_nearest_is_taken_and_the_first_of_two() -> None:
    assert cut("one two three four", 6) == ("one two", " three four")
    assert cut("aaaa bbb cccc", 6) == ("aaaa", " bbb cccc")
    assert cut("aaaa bbb cccc", 7) == ("aaaa bbb", " cccc")


def test_what_is_farther_than_the_margin_does_not_count() -> None:
    assert cut("one\n\ntwo three four", 13, margin=5)[0] == "one\n\ntwo three"
    assert cut("one\n\ntwothreefour", 13, margin=5) == ("one\n\ntwothree", "four")


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("Ein Satz. Noch einer hier", "Ein Satz."),
        ('He said "so." She did not', 'He said "so."'),
        ("3.14 is not two sentences", "3.14 is not"),
        ("子丑寅卯辰巳。午未甲乙丙丁戊", "子丑寅卯辰巳。"),
        ("他说：「子丑！」午未甲乙丙丁戊", "他说：「子丑！」"),
        ("これは文である．次の文はこれ", "これは文である．"),
        ("यह एक वाक्य है।अगला यह है", "यह एक वाक्य है।"),
        ("هل هذا سؤال؟نعم إنه كذلك", "هل هذا سؤال؟"),
        ("子丑寅卯，辰巳午未甲乙丙", "子丑寅卯，"),
        ("line one\u2028line two of it", "line one\u2028"),
        ("one para\u2029another para here", "one para\u2029"),
        ("windows\r\n\r\nnext one here", "windows\r\n\r\n"),
        ("blank\n \t\nnext one here", "blank\n \t\n"),
        ("old mac\rnext line of it", "old mac\r"),
    ],
)  # fmt: skip
def test_sentences_and_lines_of_many_scripts(text: str, before: str) -> None:
    assert cut(text, len(text) // 2) == (before, text[len(before) :])


@pytest.mark.parametrize(
    "grapheme",
    ["e\u0301\u0323", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "นำ้", "क्षि", "\u1112\u1161\u11ab", 
     "☃\ufe0f", "ｶﾞ", "\U0001f3f4\U000e0067\U000e0062\U000e007f"],
)  # fmt: skip
def test_no_grapheme_is_cut(grapheme: str) -> None:
    text = "x" * 4 + grapheme + "x" * 4
    places = [place for place in range(1, len(text)) if is_grapheme_border(text, place)]
    assert places == [*range(1, 5), *range(len(text) - 4, len(text))]
    for exact in range(5, len(text) - 4):
        assert nearest_border(text, exact, 0, 16) in (4, len(text) - 4)


def test_flags_are_separated() -> None:
    assert [is_grapheme_border("🇩🇪🇫🇷🇮🇹", place) for place in range(1, 6)] == [
        *(False, True, False, True, False)
    ]


def test_a_line_end_of_two_characters_is_never_divided() -> None:
    for place in range(1, 7):
        found = nearest_border("a\r\nb\r\nc", place, 0)
        assert found in (1, 3, 4, 6)
    assert nearest_border("\r\n", 1, 1, 1) is None
    assert nearest_border("\u0301\r\n\u0301", 2, 0) in (1, 3)


@pytest.mark.parametrize("sign", [".", "!?", "\n", " ", "\r", ")", "。", "\u0301", "🇩"])
def test_a_long_run_of_one_sign_takes_no_time(sign: str) -> None:
    text = "a" + sign * 70_000 + "b"
    start = time.perf_counter()
    assert nearest_border(text, 35_000, 32_768, 16) is not None
    assert time.perf_counter() - start < 2
