"""A plan as a document: printed, kept, and held against a later run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum.planning.plan_file import SCHEMA
from tests.commands import Cli, only
from tests.planning.carrying_out import document_of, run
from tests.planning.conftest import Write
from tests.planning.edits import add_a_stage, edit, other_book, remove_a_stage

RUN = ("run", "--in-process", "--plain")


def kept_plan(cli: Cli, folder: Path, *options: str, expect: int = 0) -> Path:
    """A plan that was written to a file, outside the experiment."""
    path = folder.parent / "kept" / "plan.json"
    path.parent.mkdir(exist_ok=True)
    cli("plan", folder, "--out", path, *options, expect=expect)
    return path


def test_the_document_is_one_and_names_its_schema(small: Write, cli: Cli) -> None:
    folder = small()
    printed = json.loads(cli("plan", folder, "--json").stdout)
    assert printed == json.loads(kept_plan(cli, folder).read_text())
    assert printed == {**document_of(folder), "findings": []}
    assert printed["schema"] == SCHEMA == "continuum.plan/1"
    assert (printed["ok"], printed["has_work"], printed["locked"]) == (True, True, False)
    (tokenizer,) = (stage for stage in printed["stages"] if stage["name"] == "tokenizer")
    assert tokenizer["inputs"] == ["book"]
    assert tokenizer["run"] == f"tokenizer-{tokenizer['fingerprint'][:12]}"


def test_the_document_holds_what_validate_finds(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "doubtful"
    folder.mkdir()
    spec = Path(__file__).parents[1] / "lint/specs/W002-steps.yaml"
    shutil.copy(spec, folder / "experiment.yaml")
    found = json.loads(cli("validate", folder, "--format", "json").stdout)["diagnostics"]
    assert [finding["code"] for finding in found] == ["W002"]
    assert json.loads(cli("plan", folder, "--json").stdout)["findings"] == found


@pytest.mark.parametrize("command", ["plan", "render", "run", "diff"])
def test_a_wrong_spec_is_one_document_too(command: str, small: Write, cli: Cli) -> None:
    folder = small(book={"kind": "fetched"})
    spec = folder / "experiment.yaml"
    told = cli("validate", spec, "--format", "json", expect=3).stdout
    assert json.loads(told)["ok"] is False
    for format_of_environment in ("", "github"):
        cli.environment["CONTINUUM_FORMAT"] = format_of_environment
        sides = (spec, spec) if command == "diff" else (spec,)
        done = cli(command, *sides, "--json", expect=3)
        assert (done.stdout, done.stderr) == (told, "")


def test_planning_writes_nothing(small: Write, cli: Cli) -> None:
    folder = small()
    before = sorted(folder.rglob("*"))
    for options in ((), ("--json",), ("--why", "tokenizer"), ("--detailed-exitcode",)):
        cli("plan", folder, *options, expect=None)
    assert sorted(folder.rglob("*")) == before


def test_a_kept_plan_is_carried_out_once(small: Write, cli: Cli) -> None:
    folder = small()
    path = kept_plan(cli, folder)
    done = json.loads(cli(*RUN, folder, "--plan", path, "--json").stdout)
    assert {stage["status"] for stage in done["stages"]} == {"done"}
    told = cli(*RUN, folder, "--plan", path, expect=6).stderr
    assert "nothing was started" in told
    assert "book: action changed: run -> reuse" in told
    assert f"continuum plan --out {path}" in told


def test_what_was_asked_for_is_part_of_the_plan(small: Write, cli: Cli) -> None:
    folder = small()
    run(folder)
    path = kept_plan(
        cli, folder, "--set", "stages.tokenizer.vocab_size=280", "--rerun", "notes", "--json"
    )
    cli(*RUN, folder, "--plan", path)
    assert len(list(folder.glob("runs/tokenizer-*"))) == 2
    assert len(list(folder.glob("runs/.archive/notes-*"))) == 1


def lose_a_run(folder: Path) -> None:
    shutil.rmtree(only(folder, "runs/notes-*"))


def damage_an_artifact(folder: Path) -> None:
    only(folder, "runs/notes-*/output/*").unlink()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (edit("vocab_size: 270", "vocab_size: 271"), "tokenizer: fingerprint changed: "),
        (other_book, "book: fingerprint changed: "),
        (add_a_stage, "more: not in the saved plan"),
        (remove_a_stage, "tokenizer: in the saved plan but not in the spec"),
        (lose_a_run, "notes: action changed: reuse -> run"),
        (damage_an_artifact, "notes: action changed: reuse -> run"),
    ],
)
def test_what_has_changed_since_is_named_and_nothing_started(
    change: Callable[[Path], None], difference: str, small: Write, cli: Cli
) -> None:
    folder = small()
    run(folder)
    path = kept_plan(cli, folder)
    change(folder)
    before = sorted(folder.glob("runs/*-*"))
    assert difference in cli(*RUN, folder, "--plan", path, expect=6).stderr
    assert sorted(folder.glob("runs/*-*")) == before


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b'{"schema": "continuum.plan/2", "stages": []}',
        b'{"schema": "continuum.lineage/1"}',
        b'{"schema": "continuum.plan/1"}',
        b'{"schema": "continuum.plan/1", "overrides": [], "rerun": [], "locked": 1, "stages": {}}',
        b'{"schema": "continuum.plan/1", "path": "x", "overrides": 1}',
        b"[" * 200_000,
    ],
    ids=lambda content: "missing" if content is None else repr(content[:40]),
)
def test_a_file_that_is_no_plan_is_a_usage_error(
    content: bytes | None, small: Write, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_bytes(content)
    told = cli(*RUN, small(), "--plan", path, expect=2).stderr
    assert f"create one with `continuum plan --out {path}`" in told


def test_a_plan_with_a_part_missing_is_a_usage_error(small: Write, cli: Cli) -> None:
    folder = small()
    path = kept_plan(cli, folder)
    document = json.loads(path.read_text())
    del document["stages"][1]["pins"]
    path.write_text(json.dumps(document))
    assert "not a valid continuum.plan/1" in cli(*RUN, folder, "--plan", path, expect=2).stderr


@pytest.mark.parametrize("options", [("--set", "seed=2"), ("--rerun", "book"), ("--locked",)])
def test_a_kept_plan_takes_nothing_besides(
    options: tuple[str, ...], small: Write, cli: Cli
) -> None:
    folder = small()
    path = kept_plan(cli, folder)
    told = cli(*RUN, folder, "--plan", path, *options, expect=2).stderr
    assert "--plan cannot be used with --set, --rerun or --locked" in told


def test_the_detailed_exit_code_tells_of_changes(small: Write, cli: Cli) -> None:
    folder = small()
    told = cli("plan", folder, "--detailed-exitcode", expect=10).stderr
    assert "to do: book, notes, tokenizer" in told
    run(folder)
    cli("plan", folder, "--detailed-exitcode", expect=0)
    (folder / "book.txt").unlink()
    cli("plan", folder, "--detailed-exitcode", expect=4)


def test_a_plan_that_would_be_refused_is_not_kept(small: Write, cli: Cli) -> None:
    folder = small()
    (folder / "book.txt").unlink()
    path = kept_plan(cli, folder, expect=4)
    assert not path.exists()
    document: dict[str, Any] = json.loads(cli("plan", folder, "--json", expect=4).stdout)
    assert not document["ok"]
    assert {s["name"]: s["action"] for s in document["stages"]} == {
        "book": "blocked",
        "notes": "run",
        "tokenizer": "blocked",
    }


def test_why_goes_down_to_the_first_cause(small: Write, cli: Cli) -> None:
    validation = {"validation": "none"}
    folder = small(
        tokens={"kind": "tokenize", "corpus": "notes", "tokenizer": "tokenizer", **validation}
    )
    run(folder)
    other_book(folder)
    told = cli("plan", folder, "--why", "tokens").stdout.splitlines()
    for word in (
        "tokens (tokenize): run",
        "tokenizer changed",
        "tokenizer (train_tokenizer): run",
        "book changed",
        "book (fetch): run",
        "content of 0/book.txt changed",
    ):
        number = next((n for n, line in enumerate(told) if word in line), None)
        assert number is not None, f"{word!r} does not follow: {told}"
        told = told[number + 1 :]


def test_why_of_an_unknown_stage_suggests_one(small: Write, cli: Cli) -> None:
    told = cli("plan", small(), "--why", "tokeniser", expect=2).stderr
    assert "; did you mean 'tokenizer'?" in told
