from pathlib import Path

import pytest

from continuum.spec.diagnostics import Diagnostic, Place, SpecError
from continuum.spec.experiment import load_experiment
from tests.spec.documents import BOOKS, HEAD, TRAINING, write


def rendered(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_experiment(path, overrides)
    return str(caught.value).splitlines()


def test_a_mistake_is_shown_with_its_line_and_a_caret(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", TRAINING.replace("lr: 1e-3", "lr: fast"))
    assert rendered(path) == [
        f"{path}:14:21: error E103: lr should be a number, not 'fast'",
        "  14 |     optimizer: {lr: fast}",
        "     |                     ^^^^",
    ]


def test_a_suggestion_and_the_number_of_mistakes_follow(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", HEAD + "sead: 1\nsede: 2\n" + BOOKS)
    lines = rendered(path)
    assert lines[3] == "  did you mean 'seed'?"
    assert lines[-1] == "2 mistakes"


def test_a_mistake_of_an_override_names_the_override(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", HEAD + BOOKS)
    expected = "--set seed=x: error E103: seed should be a whole number, not 'x'"
    assert rendered(path, "seed=x") == [expected]


def test_a_long_line_is_shown_around_the_mistake(tmp_path: Path) -> None:
    sources = "{python: a.py}, " * 40
    long = f"  books: {{kind: fetch, sources: [{sources}{{pyton: b.py}}]}}\n"
    shown = rendered(write(tmp_path / "spec.yaml", HEAD + "stages:\n" + long))
    assert all(len(line) < 140 for line in shown[1:3])
    start = shown[2].index("^")
    assert shown[1][start:].startswith("pyton: b.py}")


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"name: \x1b[31mred\x1b[0m\n")
    assert "\x1b" not in "\n".join(rendered(path))


def test_mistakes_are_ordered_by_place_and_each_told_once() -> None:
    def mistake(line: int, column: int) -> Diagnostic:
        return Diagnostic("E101", "unknown key", Place("absent.yaml", line, column, Path()))

    error = SpecError([mistake(9, 1), mistake(2, 7), mistake(2, 3), mistake(9, 1)])
    places = [(found.place.line, found.place.column) for found in error.diagnostics]
    assert places == [(2, 3), (2, 7), (9, 1)]


def test_a_diagnostic_has_a_form_for_programs(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", HEAD + "sead: 1\n" + BOOKS)
    with pytest.raises(SpecError) as caught:
        load_experiment(path)
    assert caught.value.diagnostics[0].as_json() == {
        "code": "E101",
        "severity": "error",
        "message": "unknown key 'sead' in the experiment",
        "file": str(path),
        "line": 3,
        "column": 1,
        "path": "sead",
        "suggestion": "seed",
    }
