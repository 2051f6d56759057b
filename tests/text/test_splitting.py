"""Both sides of a corpus: all of the text, each document on its side or divided near a place."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from continuum.artifacts import Corpus
from continuum.errors import IntegrityError
from continuum.text.reading import read_documents
from continuum.text.splits import by_draw, divide, draw, survey, whole_items
from continuum.text.validation import matches
from tests.text.samples import json_lines, messy_text, prose, write_corpus


def pieces(text: str, size: int) -> Iterable[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def sides(text: str, fraction: float, *, fragment_chars: int = 1000) -> dict[str, str]:
    parts = divide(pieces(text, fragment_chars), len(text), round(len(text) * fraction))
    return {str(part.split): "".join(part.fragments) for part in parts}


def documents(corpus: Corpus, fraction: float, seed: int = 0) -> list[tuple[str, str]]:
    drawn = draw(survey(read_documents(corpus), seed), fraction)
    return [(part.split, "".join(part.fragments)) for part in by_draw(corpus, drawn)]


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.5, 0.99])
def test_a_text_is_divided_at_a_line_end_near_the_fraction(fraction: float) -> None:
    text = prose()
    found = sides(text, fraction)
    assert found["train"] + found["validation"] == text
    assert found["train"].endswith("\n")
    smaller = min(fraction, 1 - fraction) * len(text)
    assert abs(len(found["validation"]) - fraction * len(text)) < smaller / 8


def test_a_paragraph_is_preferred_in_a_book() -> None:
    paragraph = "A line of words.\n" * 9 + "\n"
    found = sides(paragraph * 500, 0.05)
    assert found["train"].endswith("\n\n")
    assert len(found["validation"]) % len(paragraph) == 0


@pytest.mark.parametrize("fraction", [0.01, 0.2])
def test_the_place_does_not_depend_on_how_the_text_arrives(fraction: float) -> None:
    for text in (messy_text(20_000), "." * 50_000, "x" * 50_000, "a\r\n\r\n" * 20_000):
        expected = sides(text, fraction, fragment_chars=1 << 20)
        for size in (7, 1000):
            assert sides(text, fraction, fragment_chars=size) == expected


def test_a_text_without_spaces_is_divided_exactly() -> None:
    found = sides("x" * 1000, 0.25)
    assert (len(found["train"]), len(found["validation"])) == (750, 250)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab\n", {"train": "a", "validation": "b\n"}),
        ("a\r\n", {"train": "a", "validation": "\r\n"}),
        ("\r\n", {"train": "\r\n", "validation": ""}),
        ("ab", {"train": "a", "validation": "b"}),
    ],
)
def test_tiny_texts_are_divided_where_they_can_be(text: str, expected: dict[str, str]) -> None:
    assert sides(text, 0.5) == expected


def test_no_more_of_a_long_text_is_held_than_the_margins() -> None:
    held = 0

    def text() -> Iterable[str]:
        nonlocal held
        for _ in range(500):
            held += 10_000
            yield "words of a text\n" * 625

    train, validation = divide(text(), 5_000_000, 2_500_000)
    most = 0
    for part in (train, validation):
        for fragment in part.fragments:
            held -= len(fragment)
            most = max(most, held)
    assert most < 100_000


def test_documents_keep_their_order_and_their_text(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(2000)]
    found = documents(write_corpus(tmp_path, {"a.jsonl": json_lines(texts)}), 0.1)
    assert [text for _, text in found] == texts
    assert 195 < sum(split == "validation" for split, _ in found) < 205


def test_a_corpus_that_changed_meanwhile_is_an_error(tmp_path: Path) -> None:
    corpora = [
        write_corpus(tmp_path / str(number), {"a.jsonl": json_lines(map(str, range(number)))})
        for number in (49, 50, 51)
    ]
    drawn = draw(survey(read_documents(corpora[1]), 0), 0.5)
    assert len(list(by_draw(corpora[1], drawn))) == 50
    for other in (corpora[0], corpora[2]):
        with pytest.raises(IntegrityError, match="changed while it was read"):
            list(by_draw(other, drawn))


def test_whole_items_go_to_their_side(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": "one", "b.jsonl": json_lines(["two", "three"])})
    parts = whole_items(corpus, lambda item: item.file == "b.jsonl")
    assert [(part.split, "".join(part.fragments)) for part in parts] == [
        ("train", "one"),
        ("validation", "two"),
        ("validation", "three"),
    ]


@pytest.mark.parametrize(
    ("pattern", "is_match"),
    [
        ("https://x.org/books/b[1].txt", True),
        ("b[1].txt", True),
        ("00000-b.txt", True),
        ("*.txt", True),
        ("https://x.org/*", True),
        ("b.txt", False),
        ("B[1].TXT", False),
    ],
)
def test_files_are_named_by_source_or_file(tmp_path: Path, pattern: str, is_match: bool) -> None:
    source = "https://x.org/books/b[1].txt"
    (item,) = write_corpus(tmp_path, {"00000-b.txt": "x"}, source=source).items
    assert matches(item, pattern) is is_match
