from dataclasses import replace
from pathlib import Path

import pytest

from continuum.loading.diagnostics import (
    Diagnostic,
    Place,
    Role,
    SpecError,
    as_annotations,
    as_document,
    render,
)
from continuum.loading.load import load_experiment
from tests.spec.documents import BOOKS, HEAD, TRAINING, write


def rendered(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_experiment(path, overrides)
    return str(caught.value).splitlines()


def test_an_error_is_printed_with_its_line_and_a_caret(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", TRAINING.replace("lr: 1e-3", "lr: fast"))
    assert rendered(path) == [
        f"{path}:14:21: error E103: lr must be a number, not 'fast'",
        "  14 |     optimizer: {lr: fast}",
        "     |                     ^^^^",
    ]


def test_a_suggestion_and_the_number_of_errors_follow(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", HEAD + "sead: 1\nsede: 2\n" + BOOKS)
    lines = rendered(path)
    assert lines[3] == "  did you mean 'seed'?"
    assert lines[-1] == "2 errors"


def test_an_error_in_an_override_names_the_override(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", HEAD + BOOKS)
    expected = "--set seed=x: error E103: seed must be an integer, not 'x'"
    assert rendered(path, "seed=x") == [expected]


def test_a_long_line_is_shortened_around_the_error(tmp_path: Path) -> None:
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


def test_errors_are_sorted_by_place_without_duplicates() -> None:
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


def mistakes(folder: Path, *overrides: str) -> tuple[Diagnostic, ...]:
    path = write(folder / "specs" / "a.yaml", HEAD + "sead: 1\n" + BOOKS)
    with pytest.raises(SpecError) as caught:
        load_experiment(path, overrides)
    return tuple(caught.value.diagnostics)


def test_the_document_for_programs_says_whether_all_is_well(tmp_path: Path) -> None:
    found = mistakes(tmp_path)
    warning = replace(found[0], severity="warning")
    assert as_document(found) == {
        "schema": "continuum.diagnostics/1",
        "ok": False,
        "diagnostics": [found[0].as_json()],
    }
    assert as_document([warning])["ok"] is True
    assert as_document([])["diagnostics"] == []


def test_an_annotation_names_the_file_from_the_root_of_the_checkout(tmp_path: Path) -> None:
    assert as_annotations(mistakes(tmp_path), tmp_path) == (
        "::error file=specs/a.yaml,line=3,col=1,title=E101::"
        "unknown key 'sead' in the experiment%0Adid you mean 'seed'?"
    )


def test_an_annotation_of_an_override_has_no_file(tmp_path: Path) -> None:
    *_, last = as_annotations(mistakes(tmp_path, "seed=x"), tmp_path).splitlines()
    assert last == "::error title=E103::--set seed=x: seed must be an integer, not 'x'"


def test_what_would_end_an_annotation_is_escaped(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "a,b:c%.yaml"), 1, 2, tmp_path)
    found = Diagnostic("W001", "5% of\r\nall: this, that", place, severity="warning")
    assert as_annotations([found], tmp_path) == (
        "::warning file=a%2Cb%3Ac%25.yaml,line=1,col=2,title=W001::5%25 of%0D%0Aall: this, that"
    )


def test_a_painter_sees_each_part_in_its_role(tmp_path: Path) -> None:
    seen: list[tuple[str, Role]] = []

    def paint(text: str, role: Role) -> str:
        seen.append((text, role))
        return text

    found = mistakes(tmp_path)
    assert render(found, paint) == render(found)
    assert seen == [
        ("error E101", "error"),
        (str(found[0].place), "place"),
        ("  3 | ", "source"),
        ("    | ", "source"),
        ("^^^^", "error"),
        ("did you mean 'seed'?", "hint"),
    ]


def test_errors_and_warnings_are_counted_apart(tmp_path: Path) -> None:
    error = mistakes(tmp_path)[0]
    warning = replace(error, severity="warning")
    assert render([warning, warning]).splitlines()[-1] == "2 warnings"
    assert render([error, warning, warning]).splitlines()[-1] == "1 error, 2 warnings"


def test_a_line_with_a_secret_is_not_shown(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path)
    assert "sead: 1" in render([found])
    assert "sead: 1" not in render([replace(found, shows_source=False)])


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ("texts", "a list such as [{path: texts/*.txt}], not 'texts'"),
        ("'https://me:hunter2hunter2@example.org/a.txt'", "a list such as [{path: texts/*.txt}], "),
        ("{path: " + 200 * "a" + "}", "a list such as [{path: texts/*.txt}], not a mapping"),
    ],
    ids=["short", "a secret", "too long"],
)
def test_an_example_holds_what_the_user_wrote_unless_it_is_long_or_a_secret(
    sources: str, said: str, tmp_path: Path
) -> None:
    text = f"{HEAD}stages:\n  books: {{kind: fetch, sources: {sources}}}\n"
    (line, *_) = rendered(write(tmp_path / "spec.yaml", text))
    assert f"error E103: sources must be {said}" in line
    assert "hunter2" not in line


def test_a_value_made_of_a_variable_says_where_that_is_set(tmp_path: Path) -> None:
    text = "vars: {rate: 1e-3}\n" + TRAINING.replace("lr: 1e-3", 'lr: "${rate}"')
    path = write(tmp_path / "spec.yaml", text)
    (line, *_) = rendered(path, "vars.rate=fast")
    assert line.startswith(f"{path}:15:21: error E103: lr must be a number, not 'fast'")
    assert line.endswith("; rate is set at --set vars.rate=fast")


def test_an_error_outlives_its_file_and_can_be_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", HEAD + "sead: 1\n" + BOOKS)
    with pytest.raises(SpecError) as caught:
        load_experiment(path)
    path.unlink()
    renamed = caught.value.renamed(f"{tmp_path}/", "HEAD:")
    assert render(renamed.diagnostics, lines=renamed.lines).splitlines() == [
        "HEAD:spec.yaml:3:1: error E101: unknown key 'sead' in the experiment",
        "  3 | sead: 1",
        "    | ^^^^",
        "  did you mean 'seed'?",
    ]
    assert str(renamed) == render(renamed.diagnostics, lines=renamed.lines)
