import re

import pytest

from continuum.text.pieces import BEFORE_SPACE, BEFORE_SPACE_OR_MARK, Cutter
from tests.text.samples import messy_text, prose


@pytest.mark.parametrize("safe_place", [BEFORE_SPACE, BEFORE_SPACE_OR_MARK])
def test_pieces_make_up_the_text(safe_place: re.Pattern[str]) -> None:
    text = messy_text(20_000)
    pieces = list(Cutter(safe_place, piece_chars=100).cut((text,)))
    assert "".join(pieces) == text
    assert len(pieces) > 500


def test_pieces_do_not_depend_on_how_the_text_arrives() -> None:
    text = messy_text(20_000) + "#" * 5000 + prose()
    arrivals = ([text], [text[i : i + 7] for i in range(0, len(text), 7)])
    cutters = [Cutter(BEFORE_SPACE_OR_MARK, 200, max_piece_chars=1000) for _ in arrivals]
    first, second = (list(cutter.cut(text)) for cutter, text in zip(cutters, arrivals, strict=True))
    assert first == second
    assert cutters[0].num_unsafe == cutters[1].num_unsafe >= 4


def test_each_cut_is_before_whitespace_after_a_word() -> None:
    pieces = list(Cutter(BEFORE_SPACE, piece_chars=50).cut((prose(),)))
    assert all(piece[-1].isalnum() for piece in pieces[:-1])
    assert all(piece[0].isspace() for piece in pieces[1:])


def test_scripts_without_spaces_are_cut_at_punctuation() -> None:
    pieces = list(Cutter(BEFORE_SPACE_OR_MARK, piece_chars=10).cut(("日本語の文章。" * 100,)))
    assert max(map(len, pieces)) < 20


def test_text_without_a_safe_place_is_bounded_and_counted() -> None:
    cutter = Cutter(BEFORE_SPACE, piece_chars=10, max_piece_chars=100)
    assert [len(piece) for piece in cutter.cut(("=" * 250,))] == [100, 100, 50]
    assert cutter.num_unsafe == 2


def test_no_text_has_no_pieces() -> None:
    assert list(Cutter(BEFORE_SPACE).cut(("", ""))) == []
