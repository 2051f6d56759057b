"""Hundreds of errors in valid specs: reported, on their lines, with the right suggestions.

`python -m tests.spec.mutations --seed 7 --per-class 12 --misses` prints the table by class. By
default one seed is tested; `-m slow` tests some thousand errors more.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum.loading.diagnostics import render
from continuum.loading.load import load_experiment
from tests.spec.mutations.bases import MAIN, Base, every_field, shipped
from tests.spec.mutations.measure import Verdict, judge_all, make_mutants
from tests.spec.mutations.table import rate, table
from tests.spec.test_wrong_specs import JARGON

BASES = (*shipped(), every_field())
CORPORA = [
    pytest.param(("1", 5), id="1"),
    pytest.param(("another", 20), id="another", marks=pytest.mark.slow),
    pytest.param(("2026", 20), id="2026", marks=pytest.mark.slow),
]
"""Seeds, and number of errors of each class."""


@pytest.fixture(scope="module", params=CORPORA)
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Verdict]:
    seed, per_class = request.param
    mutants = list(make_mutants(BASES, seed, per_class))
    found = judge_all(mutants, tmp_path_factory.mktemp("mutants"))
    print(table(found))
    return found


def test_the_corpus_is_large_and_varied(verdicts: list[Verdict]) -> None:
    contents = {(tuple(v.mutant.files.items()), v.mutant.overrides) for v in verdicts}
    assert len(contents) >= 500
    assert len({verdict.mutant.mistake for verdict in verdicts}) >= 100


def test_no_error_ends_in_a_traceback_or_takes_long(verdicts: list[Verdict]) -> None:
    assert [(v.mutant.seed, v.crash) for v in verdicts if v.crash] == []
    assert max(verdict.seconds for verdict in verdicts) < 1.0


def test_errors_are_reported_on_their_lines(verdicts: list[Verdict]) -> None:
    assert rate(verdict.is_told for verdict in verdicts) >= 0.995
    assert rate(verdict.in_line for verdict in verdicts) >= 0.99
    assert rate(verdict.in_column for verdict in verdicts) >= 0.98


def test_every_class_of_errors_is_mostly_on_its_line(verdicts: list[Verdict]) -> None:
    by_class: dict[str, list[bool]] = {}
    for verdict in verdicts:
        by_class.setdefault(verdict.mutant.mistake, []).append(verdict.in_line)
    assert [name for name, in_line in by_class.items() if rate(in_line) < 0.5] == []


def test_typos_are_reported_with_the_right_word(verdicts: list[Verdict]) -> None:
    assert rate(verdict.has_word for verdict in verdicts) >= 0.97


def test_one_error_is_mostly_one_message(verdicts: list[Verdict]) -> None:
    single = [len(v.diagnostics) == 1 for v in verdicts if not v.mutant.tells_all]
    assert rate(single) >= 0.95


def test_messages_speak_the_users_language(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        for found in verdict.diagnostics:
            own_words = re.sub(r"'[^']*'|`[^`]*`", "", found.message)
            assert not JARGON.search(own_words), (verdict.mutant.seed, found.message)


def test_every_message_shows_its_line_with_a_caret_below_the_error(
    verdicts: list[Verdict],
) -> None:
    for verdict in verdicts:
        for found in (one for one in verdict.diagnostics if not one.place.is_override):
            head, source, caret, *_ = render([found]).splitlines()
            assert head.startswith(f"{found.place.file}:{found.place.line}:{found.place.column}: ")
            assert source.startswith(f"  {found.place.line} | ")
            margin = len(f"  {found.place.line} | ")
            assert caret[margin:].lstrip(" ").strip("^") == "", verdict.mutant.seed
            assert caret.index("^") <= max(margin, len(source)), verdict.mutant.seed


HARMLESS: dict[str, Callable[[str], str]] = {
    "nothing": lambda text: text,
    "empty lines": lambda text: text.replace("\n", "\n\n"),
    "comments": lambda text: re.sub(r"(?m)^(\s*)(\w+):", r"\1# about \2: it's {fine}\n\1\2:", text),
    "trailing spaces": lambda text: re.sub(r"(?m)(?<=\S)$", "  ", text),
    "Windows' line ends": lambda text: text.replace("\n", "\r\n"),
    "a byte order mark": lambda text: "\ufeff" + text,
    "no line end at the end": lambda text: text.rstrip("\n"),
    "an end of the document": lambda text: text + "...\n",
    "a beginning of the document": lambda text: "---\n" + text,
    "a long description": lambda text: re.sub(
        "(?m)^description: .*", 'description: "kind: of\n  a - text, over\n  two lines"', text
    ),
    "a block description": lambda text: re.sub(
        "(?m)^description: .*", "description: |\n  a: b\n  \u00a0c — d\n", text
    ),
    "quoted keys": lambda text: re.sub(r"(?m)^(\s+)(kind|data|from): ", r'\1"\2": ', text),
}


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_is_right_stays_right(
    change: Callable[[str], str], base: Base, tmp_path: Path
) -> None:
    for name, text in base.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change(text), encoding="utf-8", newline="")
    experiment = load_experiment(tmp_path / MAIN)
    assert experiment.stages.keys() == base.kinds.keys()
