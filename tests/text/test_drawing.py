"""Which documents validate: by hash and length alone, as near to the share as they come."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from continuum.artifacts import Corpus
from continuum.text.reading import read_documents
from continuum.text.splits import TOLERANCE, Draw, Sides, draw, error_of, survey
from tests.text.samples import json_lines, write_corpus


def draw_from(corpus: Corpus, fraction: float, seed: int = 0) -> Draw:
    return draw(survey(read_documents(corpus), seed), fraction)


def draw_texts(folder: Path, texts: Sequence[str], fraction: float, seed: int = 0) -> Draw:
    return draw_from(write_corpus(folder, {"a.jsonl": json_lines(texts)}), fraction, seed)


def validating(texts: Sequence[str], drawn: Draw) -> set[str]:
    assert drawn.mode == "documents"
    assert set(drawn.num_validation.tolist()) <= {0, *drawn.num_chars.tolist()}
    return {text for text, number in zip(texts, drawn.num_validation, strict=True) if number}


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.97])
def test_many_documents_give_the_nearest_share_of_characters(
    tmp_path: Path, fraction: float
) -> None:
    texts = [f"{number} " + "x" * (number % 90) for number in range(3000)]
    drawn = draw_texts(tmp_path, texts, fraction)
    longest = max(map(len, texts))
    total = sum(map(len, texts))
    num_validation = sum(map(len, validating(texts, drawn)))
    assert abs(num_validation - fraction * total) <= longest / 2
    assert drawn.sides == Sides(
        num_validation, total, len(validating(texts, drawn)), 3000 - len(validating(texts, drawn))
    )


def test_a_seed_draws_its_own_documents(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(300)]
    draws = [
        validating(texts, draw_texts(tmp_path / str(number), texts, 0.3, seed))
        for number, seed in enumerate((1, 1, 2))
    ]
    assert draws[0] == draws[1] != draws[2]
    assert 50 < len(draws[0] - draws[2]) < 80  # of 90, where 63 are to be expected


def test_neither_names_nor_formats_nor_the_order_of_files_matter(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(40)]
    shuffled = random.Random(1).sample(texts, 40)
    lines = draw_texts(tmp_path / "a", texts, 0.3)
    files = {f"{number}.txt": text for number, text in enumerate(shuffled[:20])}
    corpus = write_corpus(
        tmp_path / "b", {**files, "a.jsonl.gz": json_lines(shuffled[20:]), "empty.md": ""}
    )
    mixed = draw_from(corpus, 0.3)
    assert validating([*shuffled, ""], mixed) == validating(texts, lines)


def test_another_file_moves_only_documents_near_the_border(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(1000)]
    more = [*texts, *(f"new {number:5}" for number in range(100))]
    before = validating(texts, draw_texts(tmp_path / "a", texts, 0.2))
    after = validating(more, draw_texts(tmp_path / "b", more, 0.2)) & set(texts)
    assert len(before ^ after) < 20
    assert before <= after or after <= before


def test_equal_documents_count_as_one_and_stay_together(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(200)]
    repeated = [text for number, text in enumerate(texts) for _ in range(1 + number % 4)]
    random.Random(2).shuffle(repeated)
    drawn = draw_texts(tmp_path, repeated, 0.2)
    sides = {
        text: {bool(number) for other, number in zip(repeated, drawn.num_validation, strict=True)
               if other == text}
        for text in texts
    }  # fmt: skip
    assert all(len(found) == 1 for found in sides.values())
    assert abs(drawn.num_validation.sum() / drawn.num_chars.sum() - 0.2) < 0.01
    once = validating(texts, draw_texts(tmp_path / "once", texts, 0.2))
    many = {text for text, found in sides.items() if True in found}
    assert once <= many or many <= once  # the order is that of the documents, not of the copies


@pytest.mark.parametrize("lengths", [[5000], [5000, 4000], [900] * 5, [100_000, *[50] * 100]])
def test_few_or_long_documents_are_divided(tmp_path: Path, lengths: list[int]) -> None:
    texts = [chr(97 + index % 26) * length for index, length in enumerate(lengths)]
    drawn = draw_texts(tmp_path, texts, 0.1)
    assert drawn.mode == "ends"
    long = drawn.num_chars > 320
    assert (drawn.num_validation[long] == drawn.num_chars[long] // 10).all()
    assert abs(drawn.num_validation.sum() / sum(lengths) - 0.1) < 0.001
    short = set(drawn.num_validation[~long].tolist())
    assert short <= {0, 50}  # whole


def test_short_documents_are_divided_where_there_is_no_other_way(tmp_path: Path) -> None:
    drawn = draw_texts(tmp_path, ["a" * 100, "b" * 100], 0.1)
    assert (drawn.mode, drawn.num_validation.tolist()) == ("ends", [10, 10])


def test_copies_of_a_divided_document_are_divided_alike(tmp_path: Path) -> None:
    texts = ["same" * 100, "other" * 130, "same" * 100, "x", "same" * 100, "x"]
    drawn = draw_texts(tmp_path, texts, 0.2)
    assert drawn.mode == "ends"
    by_text = Counter(zip(texts, drawn.num_validation.tolist(), strict=True))
    assert sorted(by_text.values()) == [1, 2, 3]


def test_an_empty_corpus_and_empty_documents_draw_nothing(tmp_path: Path) -> None:
    assert draw_texts(tmp_path / "a", [], 0.1).num_validation.tolist() == []
    drawn = draw_texts(tmp_path / "b", ["", *("ab", "cd") * 9, ""], 0.5)
    assert (drawn.num_validation[[0, -1]] == 0).all()
    assert drawn.sides.validation_documents == drawn.sides.training_documents == 9


def test_the_problem_of_a_share_names_all_figures() -> None:
    sides = Sides(
        validation_chars=2500, total_chars=10_000, validation_documents=1, training_documents=3
    )
    assert sides.problem(0.2) is None
    problem = sides.problem(0.1)
    assert problem is not None
    assert problem.startswith(
        "validation: {fraction: 0.1} asks for 1,000 of 10,000 characters (750 to 1,250 would do), "
        "but validation got 2,500 of 1 document(s) (25.00%), and training 7,500 of 3; "
    )
    assert problem.endswith("or add text")
    assert sides.problem(0.99) is not None


def test_the_bound_is_a_quarter_of_the_smaller_side() -> None:
    assert error_of(125, 1000, 0.1) == TOLERANCE
    assert error_of(875, 1000, 0.9) == TOLERANCE
    assert error_of(124, 1000, 0.1) < TOLERANCE < error_of(126, 1000, 0.1)


def test_a_table_takes_constant_memory_a_document(tmp_path: Path) -> None:
    table = survey(read_documents(write_corpus(tmp_path, {"a.txt": "x" * 5_000_000})), 0)
    arrays = (table.high, table.low, table.num_chars)
    assert sum(array.nbytes for array in arrays) == 24
    assert table.num_chars.dtype == np.int64
