"""The table of mutants fits the sources, and what plays it tells the dead from the living."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import PROJECT, Checkout, applies
from tests.mutants.table import MUTANTS, Mutant

HARMLESS = Mutant(
    "nothing", "continuum/runs/files.py", "elif sha256 != file.sha256:",
    "elif file.sha256 != sha256:", ("tests/test_files.py", "-k", "damage"),
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_once_and_is_python(mutant: Mutant) -> None:
    path = PROJECT / mutant.file
    assert applies(mutant, path)
    assert mutant.new != mutant.old
    compile(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), mutant.file, "exec")
    assert [
        it for it in mutant.tests if it.startswith("tests") and not (PROJECT / it).exists()
    ] == []


def test_every_mutant_has_its_own_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.slow
def test_a_survivor_and_a_missing_text_are_reported(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.play(HARMLESS) == "survived"
    deadly = next(mutant for mutant in MUTANTS if mutant.tests == HARMLESS.tests)
    assert checkout.play(deadly) == "killed"
    gone = Mutant("gone", "continuum/runs/files.py", "no such text", "", HARMLESS.tests)
    assert checkout.play(gone) == "does not apply"
