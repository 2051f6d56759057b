"""The examples of `continuum explain` have exactly the mistake they are to show."""

from pathlib import Path

import pytest

from continuum.loading.codes import CODES
from continuum.loading.diagnostics import SpecError
from continuum.loading.experiment import load_experiment

STAGE = "stages:\n  books: {kind: fetch, sources: [{python: argparse.py}]}\n"
OVERRIDE = "# --set "


def codes_of(example: str, folder: Path) -> set[str]:
    """The codes of an example's mistakes, once what it leaves out is there."""
    (folder / "base.yaml").write_text("description: a base\n", encoding="utf-8")
    head = "continuum: 1\nname: example\n"
    whole = head + example + ("" if "stages:" in example else STAGE)
    path = folder / "experiment.yaml"
    path.write_text(whole, encoding="utf-8")
    overrides = [
        line.removeprefix(OVERRIDE) for line in example.splitlines() if line.startswith(OVERRIDE)
    ]
    try:
        load_experiment(path, overrides)
    except SpecError as error:
        return {found.code for found in error.diagnostics}
    return set()


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_example_has_exactly_this_mistake(code: str, tmp_path: Path) -> None:
    assert codes_of(CODES[code].wrong, tmp_path) == {code}


@pytest.mark.parametrize("code", CODES)
def test_the_right_example_has_none(code: str, tmp_path: Path) -> None:
    assert codes_of(CODES[code].right, tmp_path) == set()


@pytest.mark.parametrize("code", CODES)
def test_a_code_says_why_it_matters_and_what_to_do(code: str) -> None:
    meaning = CODES[code]
    assert len(meaning.advice) > 60
    assert meaning.wrong != meaning.right
