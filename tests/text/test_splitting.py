from pathlib import Path

import pytest

from continuum.artifacts import Corpus
from continuum.text.splitting import by_fraction, divide, matches, whole_items
from tests.text.samples import json_lines, messy_text, prose, write_corpus


def sides(text: str, fraction: float, *, fragment_chars: int = 1000) -> dict[str, str]:
    fragments = (text[i : i + fragment_chars] for i in range(0, len(text), fragment_chars))
    parts = divide(fragments, len(text), fraction)
    return {str(part.split): "".join(part.fragments) for part in parts}


def documents(corpus: Corpus, fraction: float, seed: int) -> list[tuple[str, str]]:
    parts = by_fraction(corpus, fraction, seed=seed)
    return [(part.split, "".join(part.fragments)) for part in parts]


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.5, 0.99])
def test_a_text_is_divided_at_a_line_end_near_the_fraction(fraction: float) -> None:
    text = prose()
    found = sides(text, fraction)
    assert found["train"] + found["validation"] == text
    assert found["train"].endswith("\n")
    assert abs(len(found["validation"]) - fraction * len(text)) < 200


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_every_kind_of_line_end_is_respected(ending: str) -> None:
    found = sides(f"some words{ending}" * 1000, 0.3)
    assert found["train"].endswith(f"words{ending}")
    assert found["validation"].startswith("some")


def test_the_place_does_not_depend_on_how_the_text_arrives() -> None:
    text = messy_text(20_000)
    assert sides(text, 0.2, fragment_chars=10) == sides(text, 0.2, fragment_chars=1 << 20)


def test_a_text_without_lines_is_divided_between_words() -> None:
    found = sides("many words " * 5000, 0.25)
    assert found["train"][-1].isalpha()
    assert found["validation"][0] == " "


def test_a_text_without_spaces_is_divided_exactly() -> None:
    found = sides("x" * 1000, 0.25)
    assert (len(found["train"]), len(found["validation"])) == (750, 250)


@pytest.mark.parametrize(
    ("text", "fraction", "expected"),
    [
        ("ab\n", 0.5, {"train": "ab", "validation": "\n"}),
        ("a", 0.1, {"train": "a"}),
        ("a", 0.9, {"validation": "a"}),
        ("", 0.5, {"validation": ""}),
    ],
)
def test_tiny_texts_are_divided_where_they_can_be(
    text: str, fraction: float, expected: dict[str, str]
) -> None:
    assert sides(text, fraction) == expected


def test_json_lines_are_chosen_whole_and_nearly_in_proportion(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(2000)]
    found = documents(write_corpus(tmp_path, {"a.jsonl": json_lines(texts)}), 0.1, seed=1)
    assert [text for _, text in found] == texts
    assert 150 < sum(split == "validation" for split, _ in found) < 250


def test_another_seed_chooses_other_documents(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.jsonl": json_lines(map(str, range(100)))})
    assert documents(corpus, 0.3, seed=1) == documents(corpus, 0.3, seed=1)
    assert documents(corpus, 0.3, seed=1) != documents(corpus, 0.3, seed=2)


def test_a_choice_survives_other_files_and_another_name(tmp_path: Path) -> None:
    lines, others = json_lines(map(str, range(100))), json_lines(map(str, range(100, 200)))
    alone = write_corpus(tmp_path / "a", {"x.jsonl": lines})
    among = write_corpus(tmp_path / "b", {"other.jsonl": others, "y.jsonl": lines})
    assert documents(alone, 0.3, seed=1) == documents(among, 0.3, seed=1)[100:]


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
