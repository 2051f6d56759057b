from continuum.text.bpe import untrained_bpe
from continuum.text.pieces import Cutter
from continuum.text.safe_places import SafePlaces
from tests.text.samples import messy_text, prose

PLACES = SafePlaces(untrained_bpe())


def test_pieces_make_up_the_text() -> None:
    text = messy_text(20_000)
    pieces = list(Cutter(PLACES, piece_chars=100).cut((text,)))
    assert "".join(pieces) == text
    assert len(pieces) > 500


def test_pieces_do_not_depend_on_how_the_text_arrives() -> None:
    text = messy_text(20_000) + "#" * 5000 + prose()
    arrivals = ([text], [text[i : i + 7] for i in range(0, len(text), 7)])
    cutters = [Cutter(PLACES, 200, long_piece_chars=1000) for _ in arrivals]
    first, second = (list(cutter.cut(text)) for cutter, text in zip(cutters, arrivals, strict=True))
    assert first == second
    assert cutters[0].num_long == cutters[1].num_long == 1


def test_pieces_end_soon_after_their_length() -> None:
    pieces = list(Cutter(PLACES, piece_chars=50).cut((prose(),)))
    assert all(len(piece) >= 50 for piece in pieces[:-1])
    assert sum(map(len, pieces)) / len(pieces) < 60


def test_scripts_without_spaces_are_cut_at_punctuation() -> None:
    pieces = list(Cutter(PLACES, piece_chars=10).cut(("日本語の文章。" * 100,)))
    assert max(map(len, pieces)) < 20


def test_text_without_a_safe_place_is_one_piece_and_counted() -> None:
    cutter = Cutter(PLACES, piece_chars=10, long_piece_chars=100)
    assert [len(piece) for piece in cutter.cut(("=" * 250,))] == [250]
    assert cutter.num_long == 1


def test_no_text_has_no_pieces() -> None:
    assert list(Cutter(PLACES).cut(("", ""))) == []
