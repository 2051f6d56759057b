from pathlib import Path

import pytest

from continuum.lint.suppression import read_allowances
from tests.lint.test_rules import SPECS, warnings_of

WARMED = """\
continuum: 1
name: toy
stages:
  books: {{kind: fetch, sources: [{{python: argparse.py}}]}}
  tokenizer: {{kind: train_tokenizer, corpus: books, vocab_size: 512}}
  tokens: {{kind: tokenize, corpus: books, tokenizer: tokenizer, validation: none}}
  pretrain:{before_stage}
    kind: pretrain
    model: pythia-14m
    data: tokens
    max_steps: 5
    sequence_length: 32
    global_batch_size: 8
    optimizer: {{lr: 1e-3}}
    evaluate: null
{above}    schedule: {{warmup: 2}}{beside}
"""


def codes(folder: Path, *, before_stage: str = "", above: str = "", beside: str = "") -> list[str]:
    path = folder / "spec.yaml"
    text = WARMED.format(before_stage=before_stage, above=above, beside=beside)
    path.write_text(text, encoding="utf-8")
    return [warning.code for warning in warnings_of(path)]


def test_without_a_comment_the_warning_is_reported(tmp_path: Path) -> None:
    assert codes(tmp_path) == ["W002"]


@pytest.mark.parametrize(
    "comment",
    [
        "# continuum: allow W002",
        "#continuum:allow w002",
        "# continuum: allow W002, for a test",
        "# continuum: allow W002 because the server keeps its files",
    ],
)
def test_a_comment_on_the_line_or_above_it_silences_the_rule(comment: str, tmp_path: Path) -> None:
    assert codes(tmp_path, beside=f"  {comment}") == []
    assert codes(tmp_path, above=f"    {comment}\n") == []
    assert codes(tmp_path, above=f"    {comment}\n\n    # why\n") == []


def test_a_comment_elsewhere_suppresses_nothing_and_is_reported(tmp_path: Path) -> None:
    found = codes(tmp_path, before_stage="  # continuum: allow W002")
    assert found == ["W014", "W002"]


def test_a_comment_beside_a_value_does_not_speak_of_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("a: 1  # continuum: allow W002\nb: 2\n", encoding="utf-8")
    assert [found.line for found in read_allowances((path,))] == [1]


def test_several_codes_are_each_accounted_for(tmp_path: Path) -> None:
    assert codes(tmp_path, beside="  # continuum: allow W002, W005") == ["W014"]


def test_a_text_that_looks_like_a_comment_is_none(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    lines = ['a: "x # continuum: allow W002"', "b: |", "  # continuum: allow W002", "c: 1"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_allowances((path,)) == ()


def test_what_depends_on_the_folder_may_be_allowed_in_advance(tmp_path: Path) -> None:
    right = (SPECS / "W001-budget.right.yaml").read_text(encoding="utf-8")
    path = tmp_path / "spec.yaml"
    path.write_text(right.replace("300k", "300k  # continuum: allow W001"), encoding="utf-8")
    assert warnings_of(path) == ()


def test_a_base_may_allow_what_this_experiment_does_not_do(tmp_path: Path) -> None:
    right = (SPECS / "W002-steps.right.yaml").read_text(encoding="utf-8")
    allowed = right.replace("warmup: 2}", "warmup: 2}  # continuum: allow W002")
    (tmp_path / "base.yaml").write_text(allowed, encoding="utf-8")
    path = tmp_path / "spec.yaml"
    path.write_text("extends: base.yaml\n", encoding="utf-8")
    assert warnings_of(path) == ()
    assert [found.code for found in warnings_of(tmp_path / "base.yaml")] == ["W014"]
