"""`continuum run` shows the warnings of `continuum plan`, before anything starts."""

import json
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.spec.documents import write

SPEC = """\
continuum: 1
name: warned
vars: {unused: 1}
stages:
  lines: {kind: import, as: corpus, path: texts.jsonl, format: txt}
"""


@pytest.fixture
def warned(tmp_path: Path) -> Path:
    """A spec with a warning of a rule, on line 3, and one of a forecast, on line 5."""
    (tmp_path / "texts.jsonl").write_text('{"text": "a cat"}\n' * 9, encoding="utf-8")
    return write(tmp_path / "experiment.yaml", SPEC)


def warnings_in(text: str) -> list[str]:
    """The warnings with a place in the spec."""
    return [line for line in text.splitlines() if ": warning W" in line]


def test_a_run_prints_the_warnings_of_the_plan_once_and_first(cli: Cli, warned: Path) -> None:
    planned = warnings_in(cli("plan", warned).stdout)
    assert [line.split(": ")[0] for line in planned] == [f"{warned}:3:8", f"{warned}:5:64"]
    done = cli("run", warned)
    assert warnings_in(done.stderr) == planned
    assert done.stderr.index(planned[-1]) < done.stderr.index("lines: started")
    assert warnings_in(done.stdout) == []
    assert "overrides the suffix" not in done.stderr.partition("lines: started")[2]
    again = cli("run", warned).stderr
    assert warnings_in(again) == warnings_in(cli("plan", warned).stdout) == planned[:1]


def test_the_warnings_of_a_run_can_be_hidden(cli: Cli, warned: Path) -> None:
    assert "warning W" not in cli("run", "--no-warnings", warned).stderr
    assert cli("-q", "run", warned).stderr == ""


def test_a_strict_run_with_a_warning_starts_nothing(cli: Cli, warned: Path) -> None:
    refused = cli("run", "--strict", "--no-warnings", warned, expect=4).stderr
    assert "nothing was started" in refused
    assert f"{warned}:3:8: error W013: unused variable 'unused'" in refused
    assert f"{warned}:5:64: error W016: " in refused
    assert not list(warned.parent.glob("runs/*/stage.json"))
    warned.write_text(SPEC.replace("vars: {unused: 1}\n", "").replace("format: txt", ""), "utf-8")
    cli("run", "--strict", warned)


def test_the_document_of_a_run_has_the_warnings(cli: Cli, warned: Path) -> None:
    planned = json.loads(cli("plan", "--json", warned).stdout)["findings"]
    assert {found["code"] for found in planned} == {"W013", "W016"}
    assert json.loads(cli("run", "--json", "--no-warnings", warned).stdout)["findings"] == planned
