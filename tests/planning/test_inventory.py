"""`continuum runs` and `continuum prune`: what is there, what needs it, and what goes."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from continuum.planning.inventory import PruneRule, RunInfo, choose_removable
from continuum.runs.attempts import Owner
from continuum.runs.folder import ExperimentFolder, StageRun
from tests.commands import Cli
from tests.planning.conftest import Write

ADDED = b"One more line.\n"


@pytest.fixture
def edited(small: Write, cli: Cli) -> Path:
    """An experiment that ran, whose book was changed, and that ran again."""
    folder = small()
    cli("run", folder)
    (folder / "first.lock").write_bytes((folder / "continuum.lock").read_bytes())
    with (folder / "book.txt").open("ab") as file:
        file.write(ADDED)
    cli("run", folder)
    return folder


def undo(folder: Path) -> None:
    book = folder / "book.txt"
    book.write_bytes(book.read_bytes().removesuffix(ADDED))


def runs_of(folder: Path, cli: Cli) -> dict[str, dict[str, Any]]:
    document = json.loads(cli("runs", folder, "--json").stdout)
    assert document["schema"] == "continuum.runs/1"
    return {it["run"]: it for it in document["runs"]}


def run_of(folder: Path, cli: Cli, stage: str, *, is_current: bool) -> dict[str, Any]:
    found = runs_of(folder, cli).values()
    (it,) = (it for it in found if it["stage"] == stage and it["is_current"] is is_current)
    return it


def names(folder: Path) -> set[str]:
    return {run.name for run in ExperimentFolder(folder).runs()}


def pruned(folder: Path, cli: Cli, *more: str) -> set[str]:
    """The runs that a command removed."""
    before = names(folder)
    cli("prune", folder, "--yes", *more)
    return before - names(folder)


def test_runs_are_listed_with_what_needs_them_and_what_differs(edited: Path, cli: Cli) -> None:
    found = runs_of(edited, cli)
    assert len(found) == 5
    assert {it["state"] for it in found.values()} == {"complete"}
    assert {it["needed"] for it in found.values() if it["is_current"]} == {"spec"}
    book = run_of(edited, cli, "book", is_current=False)
    tokenizer = run_of(edited, cli, "tokenizer", is_current=False)
    assert book["needed"] is tokenizer["needed"] is None
    assert "book.txt" in " ".join(book["differences"])
    assert tokenizer["differences"] == ["book changed"]
    assert book["used_by"] == [tokenizer["run"]]
    for it in found.values():
        files = [path for path in (edited / "runs" / it["run"]).rglob("*") if path.is_file()]
        assert it["size_bytes"] == sum({p.stat().st_ino: p.stat().st_size for p in files}.values())


def test_the_table_names_state_and_need(edited: Path, cli: Cli) -> None:
    text = cli("runs", edited).stdout
    assert text.splitlines()[0].split()[:3] == ["run", "state", "age"]
    assert "not needed: 2" in text
    assert "continuum prune" in text
    only = cli("runs", edited, "--stage", "notes").stdout
    assert "runs/notes-" in only
    assert "runs/book-" not in only
    assert "did you mean 'book'" in cli("runs", edited, "--stage", "bok", expect=2).stderr


def test_a_stage_that_the_spec_lost_is_kept_by_the_lock(small: Write, cli: Cli) -> None:
    folder = small()
    cli("run", folder)
    small(notes=None)
    notes = run_of(folder, cli, "notes", is_current=False)
    assert notes["differences"] == ["the spec has no stage 'notes'"]
    assert notes["needed"] == "lock"


def test_prune_removes_what_nothing_needs_and_keeps_its_lineage(edited: Path, cli: Cli) -> None:
    before = json.loads((edited / "lineage.json").read_text(encoding="utf-8"))
    old = {name for name, it in runs_of(edited, cli).items() if it["needed"] is None}
    assert pruned(edited, cli) == old
    after = json.loads((edited / "lineage.json").read_text(encoding="utf-8"))
    assert after["edges"] == before["edges"]
    assert [node["id"] for node in after["nodes"]] == [node["id"] for node in before["nodes"]]
    removed = {node["id"] for node in after["nodes"] if "removed" in node["facts"]}
    assert {node.removeprefix("run:").partition("/")[0] for node in removed} == old
    cli("verify", edited)
    cli("run", edited)
    assert json.loads((edited / "lineage.json").read_text(encoding="utf-8")) == after
    tokenizer = next(name for name in old if name.startswith("tokenizer"))
    assert cli("lineage", edited, tokenizer).stdout.count("(removed on ") >= 2
    assert pruned(edited, cli) == set()


def test_a_run_that_is_made_again_is_not_removed_any_more(edited: Path, cli: Cli) -> None:
    old = pruned(edited, cli)
    undo(edited)
    cli("run", edited)
    assert old <= names(edited)
    assert '"removed"' not in (edited / "lineage.json").read_text(encoding="utf-8")


def test_dry_run_and_what_nobody_can_confirm_remove_nothing(edited: Path, cli: Cli) -> None:
    before = names(edited)
    assert "would remove 2 runs" in cli("prune", edited, "--dry-run").stdout
    document = json.loads(cli("prune", edited, "--dry-run", "--json").stdout)
    assert {it["stage"] for it in document["runs"]} == {"book", "tokenizer"}
    assert "--yes" in cli("prune", edited, expect=2).stderr
    assert names(edited) == before


@pytest.mark.parametrize(("answer", "is_removed"), [("y", True), ("n", False)])
def test_a_terminal_is_asked(edited: Path, answer: str, is_removed: bool) -> None:
    before = names(edited)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "continuum", "prune", str(edited)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(ours, f"{answer}\n".encode())
    shown, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "would remove 2 runs" in shown
    assert (names(edited) != before) == is_removed


def test_what_a_lock_or_the_user_names_stays_with_its_inputs(edited: Path, cli: Cli) -> None:
    book = run_of(edited, cli, "book", is_current=False)["run"]
    tokenizer = run_of(edited, cli, "tokenizer", is_current=False)["run"]
    assert pruned(edited, cli, "--lock", str(edited / "first.lock")) == set()
    assert pruned(edited, cli, "--keep", tokenizer) == set()  # nor the book below it
    wrong = cli("prune", edited, "--keep", "tokeniser", expect=2).stderr
    assert "did you mean 'tokenizer'" in wrong
    assert "no such file" in cli("prune", edited, "--lock", "x.lock", expect=2).stderr
    assert pruned(edited, cli, "--keep", book) == set()  # the tokenizer proves it


def test_limits_by_age_count_and_size(edited: Path, cli: Cli) -> None:
    assert pruned(edited, cli, "--older-than", "1d") == set()
    assert pruned(edited, cli, "--keep-last", "1") == set()
    assert pruned(edited, cli, "--max-size", "1TB") == set()
    assert "30d" in cli("prune", edited, "--older-than", "soon", expect=2).stderr
    assert "200GB" in cli("prune", edited, "--max-size", "much", expect=2).stderr
    assert len(pruned(edited, cli, "--max-size", "0")) == 2


def test_the_oldest_go_first_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    def info(name: str, size: int, needed: str | None = None) -> RunInfo:
        made_at = f"2026-01-0{name[-1]}T00:00:00+00:00"
        run = StageRun(tmp_path / name)
        return RunInfo(run, "s", "complete", "", made_at, size, {}, "", False, (), (), needed)

    runs = [info("s-3", 5), info("s-1", 5, "spec"), info("s-2", 5), info("s-4", 5)]

    def chosen(rule: PruneRule) -> list[str]:
        return [it.run.name for it in choose_removable(runs, rule)]

    assert chosen(PruneRule()) == ["s-2", "s-3", "s-4"]
    assert chosen(PruneRule(keep_last=1)) == ["s-2", "s-3"]
    assert chosen(PruneRule(max_size_bytes=14)) == ["s-2", "s-3"]
    assert chosen(PruneRule(older_than_s=0)) == ["s-2", "s-3", "s-4"]


def test_a_run_that_alone_proves_one_that_is_kept_stays(edited: Path, cli: Cli) -> None:
    """Without a lock, the old tokenizer's record is the only one of the old book's seal."""
    (edited / "continuum.lock").unlink()
    undo(edited)
    spec = edited / "experiment.yaml"
    spec.write_text(spec.read_text(encoding="utf-8").replace("270", "280"), encoding="utf-8")
    book = run_of(edited, cli, "book", is_current=True)
    proofs = [
        it for it in runs_of(edited, cli).values() if it["needed"] == f"proof of {book['run']}"
    ]
    assert [it["stage"] for it in proofs] == ["tokenizer"]
    assert proofs[0]["run"] not in pruned(edited, cli)


def test_an_unreadable_run_is_left(edited: Path, cli: Cli) -> None:
    book = run_of(edited, cli, "book", is_current=False)["run"]
    (edited / "runs" / book / "stage.json").write_text("{}", encoding="utf-8")
    found = runs_of(edited, cli)[book]
    assert (found["state"], found["needed"]) == ("damaged", "unreadable")
    assert book not in pruned(edited, cli)


def test_prune_refuses_a_folder_in_use(edited: Path, cli: Cli) -> None:
    with ExperimentFolder(edited).lock():
        assert "in use by process" in cli("prune", edited, "--yes", expect=7).stderr


def test_a_removal_that_was_cut_short_is_finished(edited: Path, cli: Cli) -> None:
    book = run_of(edited, cli, "book", is_current=False)["run"]
    (edited / "runs" / book).rename(edited / "runs" / f".removing-{book}")
    pruned(edited, cli)
    assert not [*(edited / "runs").glob(".removing-*")]


def test_lineage_says_that_a_folder_is_missing(edited: Path, cli: Cli) -> None:
    for is_current in (True, False):
        book = run_of(edited, cli, "book", is_current=is_current)["run"]
        tokenizer = run_of(edited, cli, "tokenizer", is_current=is_current)["run"]
        shutil.rmtree(edited / "runs" / book)
        for name in {tokenizer, "tokenizer"} if is_current else {tokenizer}:
            tree = cli("lineage", edited, name).stdout
            assert f"missing: runs/{book} is not there" in tree


def test_a_run_that_was_interrupted_is_not_running_because_another_one_is(tmp_path: Path) -> None:
    run, earlier, later = StageRun(tmp_path), Owner(1, "here", "2026"), Owner(2, "here", "2028")

    def state(owner: Owner | None) -> str:
        return run.attempt_state(owner).state

    assert state(later) == "running"  # it has not logged its start yet
    run.log_attempt("started", at="2027")
    assert state(None) == state(later) == "interrupted"
    assert state(earlier) == "running"  # before its worker has the lock
    with run.worker_lock():
        assert state(None) == state(later) == "running"
    run.log_attempt("ended", status="stopped")
    assert state(earlier) == "stopped"
