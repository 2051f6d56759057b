import pytest

from continuum.text.split_patterns import SplitPattern, UnsupportedPatternError, literal_pattern


@pytest.mark.parametrize(
    ("pattern", "pair", "holds"),
    [
        (r"ab|c", "ab", True),
        (r"ab|c", "bc", False),
        (r"a+", "aa", True),
        (r"a{1}", "aa", False),
        (r"a{1}+", "aa", True),
        (r"(?:ab)+c", "ba", True),
        (r"(?:ab)+c", "bc", True),
        (r"(?:ab)+c", "ac", False),
        (r"a b?c", " c", True),
        (r"a(?=b)|b", "ab", True),
        (r"[ab]+(?! )|.", "b ", True),
        (r"\s+(?!\S)|\S", " x", True),
        (r"\p{L}+|\p{N}{1,3}", "a1", False),
        (r"\p{L}+|\p{N}{1,3}", "11", True),
        (r"[^\s\p{L}]+", "1a", False),
        (r"[a-c&&[^b]]+", "ab", False),
        (r"[a-c&&[^b]]+", "ac", True),
        (r"(?i:'S)", "'s", True),
        (r"(?i:'s)", "'\u017f", True),
        (r"\p{Han}+", "一二", True),
        (r"a\x{20}\u0062", " b", True),
    ],
)
def test_pairs_that_a_match_may_hold(pattern: str, pair: str, holds: bool) -> None:
    assert SplitPattern(pattern).may_hold(*pair) is holds


@pytest.mark.parametrize(
    ("pattern", "char", "matches"),
    [
        (r" ?\p{L}+|\s+", "a", True),
        (r" ?\p{L}+|\s+", " ", True),
        (r" ?\p{L}+", " ", False),
        (r"[^\s]?+\p{L}++", "a", False),
        (r"\p{L}++", "a", True),
        (r"a(?=b)", "a", False),
        (r"ab?", "a", True),
        (r"a{2}", "a", False),
        (r"\p{Han}", "一", False),
    ],
)
def test_characters_at_which_a_match_surely_begins(pattern: str, char: str, matches: bool) -> None:
    assert SplitPattern(pattern).surely_matches(char) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?<=a)b",
        r"\ba",
        r"^a",
        r"a*",
        r"(a)\1",
        r"[[:alpha:]]",
        r"(?i:ß)",
        r"(a",
        r"\Ka",
        r"(?x)a",
    ],
)
def test_unsupported_patterns_are_errors(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        SplitPattern(pattern)


def test_a_fixed_text_is_read_letter_by_letter() -> None:
    assert literal_pattern("a.b").may_hold(".", "b")
    assert not literal_pattern("a.b").may_hold("a", "b")
