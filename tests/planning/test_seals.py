"""Records cannot be edited unnoticed: they are sealed, and others have recorded their seals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from continuum.planning.plan import Request
from continuum.runs.records import RESEALED
from tests.commands import Cli, only
from tests.forging import Edit, as_earlier_release, forge, reseal
from tests.planning.carrying_out import actions_of, plan_of, run
from tests.planning.conftest import Write
from tests.planning.edits import lock_text

BOOK = "runs/book-*"


def set_in(*path: str | int, to: Any) -> Edit:
    def edit(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return edit


FORGERIES: dict[str, tuple[str, Edit]] = {
    "a size": ("artifact.json", set_in("artifact", "items", 0, "size_bytes", to=1)),
    "a source": ("artifact.json", set_in("artifact", "items", 0, "source", to="holy.txt")),
    "a commit": ("stage.json", set_in("provenance", "git", to={"commit": "0" * 40})),
    "a version": ("stage.json", set_in("provenance", "versions", "continuum", to="9")),
    "a time": ("stage.json", set_in("made_at", to="2001-01-01T00:00:00.000+00:00")),
    "a field": ("stage.json", set_in("spec", "description", to="made on the moon")),
}


@pytest.fixture
def finished(small: Write) -> Path:
    folder = small()
    run(folder)
    return folder


def findings(cli: Cli, folder: Path, *options: str) -> list[tuple[str, str]]:
    found = cli("verify", folder, "--json", *options, expect=None)
    document = json.loads(found.stdout)
    assert found.returncode == (0 if document["ok"] else 8)
    return [(f["run"].split("-")[0], f"{f['what']} {f['problem']}") for f in document["findings"]]


@pytest.mark.parametrize(("file", "edit"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_record_is_found_and_is_not_reused(
    finished: Path, cli: Cli, file: str, edit: Edit
) -> None:
    forge(only(finished, BOOK) / file, edit)
    (found,) = findings(cli, finished, "--fast")
    assert found[0] == "book"
    assert f"{file} was changed after " in found[1]
    planned = plan_of(finished).stages["book"]
    assert (planned.action.value, planned.must_replace) == ("run", True)
    assert "damaged" in str(planned.reasons[0])
    assert " damaged " in cli("status", finished).stdout


def test_a_forged_attempt_is_found_and_the_end_of_the_process_is_none(
    finished: Path, cli: Cli
) -> None:
    attempts = only(finished, BOOK) / "attempts.jsonl"
    lines = attempts.read_text().splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines] == ["started", "code", "ended"]
    assert findings(cli, finished) == []
    attempts.write_text(lines[0].replace('"attempt": 1', '"attempt": 7') + "".join(lines[1:]))
    assert findings(cli, finished) == [
        ("book", "attempts.jsonl was changed after the run was finished")
    ]
    attempts.write_text("".join([*lines, lines[0]]))
    assert "has an attempt that started after" in findings(cli, finished)[0][1]


def test_a_record_without_its_seal_is_found(finished: Path, cli: Cli) -> None:
    forge(only(finished, BOOK) / "artifact.json", lambda it: [it.pop("seal"), it.pop("records")])
    assert ("book", "artifact.json has lost its seal") in findings(cli, finished)
    assert actions_of(finished)["book"] == "run"


@pytest.mark.parametrize("number", range(len(FORGERIES)), ids=FORGERIES)
def test_a_seal_made_anew_is_found_by_what_was_made_from_the_run(
    finished: Path, cli: Cli, number: int
) -> None:
    file, edit = list(FORGERIES.values())[number]
    book = only(finished, BOOK)
    forge(book / file, edit)
    reseal(book)
    (finished / "continuum.lock").unlink()
    (found,) = findings(cli, finished, "--fast")
    assert found[0] == "book"
    assert "artifact.json was edited and resealed: runs/tokenizer-" in found[1]


def test_a_recomputed_seal_is_found_by_the_lock_and_is_not_reused(finished: Path, cli: Cli) -> None:
    notes = only(finished, "runs/notes-*")
    forge(notes / "stage.json", set_in("provenance", "host", to="elsewhere"))
    reseal(notes)
    assert findings(cli, finished) == [
        (
            "notes",
            f"artifact.json {RESEALED}",
        )
    ]
    assert actions_of(finished)["notes"] == "run"
    run(finished)
    assert findings(cli, finished) == []


def test_what_nothing_else_has_recorded_is_consistent_and_not_proved(
    finished: Path, cli: Cli
) -> None:
    assert "not proved" not in cli("verify", finished).stdout
    (finished / "continuum.lock").unlink()
    notes = only(finished, "runs/notes-*")
    forge(notes / "stage.json", set_in("provenance", "host", to="elsewhere"))
    reseal(notes)
    tokenizer = only(finished, "runs/tokenizer-*").name
    told = cli("verify", finished).stdout
    assert "consistent, but not proved (neither continuum.lock nor a run made from it" in told
    assert f": runs/{notes.name}, runs/{tokenizer}" in told
    document = json.loads(cli("verify", finished, "--json").stdout)
    assert (document["ok"], document["not_proved"]) == (True, [notes.name, tokenizer])


def test_a_seal_taken_away_with_all_that_tells_of_it_is_found_by_the_lock(
    finished: Path, cli: Cli
) -> None:
    before = lock_text(finished)
    as_earlier_release(finished)
    (finished / "continuum.lock").write_text(before)
    assert [run_ for run_, _ in findings(cli, finished)] == ["book", "notes", "tokenizer"]


def test_runs_of_an_earlier_release_are_verified_as_before(finished: Path, cli: Cli) -> None:
    as_earlier_release(finished)
    told = cli("verify", finished).stdout
    assert "not sealed (made by an earlier release): runs/book-" in told
    assert "not proved" not in told
    assert set(actions_of(finished).values()) == {"reuse"}
    cli("run", finished, "--in-process")
    only(finished, f"{BOOK}/output/*").write_bytes(b"")
    assert findings(cli, finished)[0][0] == "book"


def test_a_copy_under_another_fingerprint_is_damage(finished: Path, cli: Cli) -> None:
    other = "stages.tokenizer.vocab_size=280"
    wanted = plan_of(finished, Request(overrides=(other,))).stages["tokenizer"].run.path
    shutil.copytree(only(finished, "runs/tokenizer-*"), wanted)
    assert "was copied or renamed" in findings(cli, finished)[0][1]
    told = cli("plan", finished, "--set", other).stdout
    assert f"damaged: {wanted} was copied or renamed" in told.replace("\n", "")
    run(finished, Request(overrides=(other,)))
    assert findings(cli, finished) == []


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (set_in("identity", "stage", "vocab_size", to=1), "its identity has the fingerprint"),
        (set_in("fingerprint", to="0" * 64), "its identity has the fingerprint"),
    ],
    ids=["identity", "fingerprint"],
)
def test_a_forged_identity_is_found(finished: Path, cli: Cli, edit: Edit, told: str) -> None:
    tokenizer = only(finished, "runs/tokenizer-*")
    forge(tokenizer / "stage.json", edit)
    reseal(tokenizer)
    (finished / "continuum.lock").unlink()
    assert told in findings(cli, finished)[0][1]
    assert actions_of(finished)["tokenizer"] == "run"


def test_what_is_made_again_with_the_same_bytes_is_no_forgery(finished: Path, cli: Cli) -> None:
    before = lock_text(finished)
    run(finished, Request(rerun=frozenset({"book"})))
    shutil.rmtree(finished / "runs" / ".archive")
    assert lock_text(finished) == before, "it names equal work that was done before"
    document = json.loads(cli("verify", finished, "--json").stdout)
    assert document["not_proved"] == [only(finished, BOOK).name]
    cli("lock", finished)
    assert lock_text(finished) != before
    assert "not proved" not in cli("verify", finished).stdout


def test_the_lock_of_equal_work_done_elsewhere_accuses_nobody(small: Write, cli: Cli) -> None:
    here, there = small("here"), small("there")
    run(here)
    run(there)
    shutil.copy(there / "continuum.lock", here)
    assert findings(cli, here) == []
    assert set(actions_of(here).values()) == {"reuse"}


def test_the_lineage_shows_nothing_of_a_forged_record(finished: Path, cli: Cli) -> None:
    forge(only(finished, BOOK) / "artifact.json", FORGERIES["a source"][1])
    shown = cli("lineage", finished, "tokenizer")
    assert "holy.txt" not in shown.stdout
    assert "warning: skipped runs/book-" in shown.stderr
    assert "artifact.json was changed after it was written" in shown.stderr


def test_what_is_installed_cannot_be_edited_unnoticed(finished: Path, cli: Cli) -> None:
    listed = only(finished, "runs/.environment/*.json")
    listed.with_name(f".{listed.name}.1.tmp").write_bytes(b"[")  # left by a killed run
    assert findings(cli, finished) == []
    edited = listed.read_bytes().replace(b'"torch": "', b'"torch": "9')
    assert edited != listed.read_bytes()
    listed.write_bytes(edited)
    what = f"{listed.name} was changed after it was written"
    assert findings(cli, finished, "--fast") == [(".environment", what)]


def test_a_list_of_what_was_installed_that_is_gone_is_told(finished: Path, cli: Cli) -> None:
    listed = only(finished, "runs/.environment/*.json")
    listed.unlink()
    told = f"stage.json names runs/.environment/{listed.name}, which is missing"
    assert set(findings(cli, finished)) == {(run, told) for run in ("book", "notes", "tokenizer")}
