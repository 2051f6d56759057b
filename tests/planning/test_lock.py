"""continuum.lock: written from the records, in the spec's order, and no more of it than changed."""

import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.planning.locked_run import renew_lockfile
from continuum.planning.lockfile import HEADER, parse_lockfile
from continuum.planning.plan import Request
from continuum.runs.provenance import package_versions
from continuum.runs.records import STAGE_SCHEMA
from tests.commands import Cli, only
from tests.planning.carrying_out import (
    CrashError,
    Events,
    Interruption,
    artifacts_of,
    plan_of,
    run,
)
from tests.planning.conftest import Write
from tests.planning.edits import edit, lock_text, other_book


def locked(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(lock_text(folder))
    return document


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_a_run_locks_what_it_made_in_the_order_of_the_spec(small: Write) -> None:
    folder = small()
    plan = run(folder).plan
    document = locked(folder)
    assert lock_text(folder).startswith(HEADER)
    assert list(document) == ["continuum_lock", "experiment", "versions", "stages"]
    assert (document["continuum_lock"], document["experiment"]) == (1, "small")
    assert document["versions"] == package_versions()
    assert list(document["stages"].items()) == [
        (
            name,
            {
                "fingerprint": planned.fingerprint,
                "artifact": artifacts_of(plan)[name],
                "seal": planned.run.artifact().seal,
                "made_at": planned.run.record().made_at,
            },
        )
        for name, planned in plan.stages.items()
    ]


def test_a_lock_that_says_the_same_is_not_written(small: Write) -> None:
    folder = small()
    run(folder)
    before = (folder / "continuum.lock").stat()
    run(folder)
    run(folder, Request(rerun=frozenset({"tokenizer"})))
    after = (folder / "continuum.lock").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_small_change_is_a_small_diff(small: Write) -> None:
    folder = small()
    run(folder)
    before, old = lock_text(folder), locked(folder)["stages"]
    edit("vocab_size: 270", "vocab_size: 280")(folder)
    run(folder)
    new = locked(folder)["stages"]
    keys = ("fingerprint", "artifact", "seal", "made_at")
    told = [line.replace("'", "") for line in changed_lines(before, lock_text(folder))]
    assert sorted(told) == sorted(
        f"{sign}     {key}: {entries['tokenizer'][key]}"
        for sign, entries in (("-", old), ("+", new))
        for key in keys
    )


def test_a_stage_that_leaves_the_spec_leaves_the_lock(small: Write) -> None:
    folder = small()
    run(folder)
    before = lock_text(folder)
    small(notes=None)
    run(folder)
    gone = changed_lines(before, lock_text(folder))
    keys = [line.split(":")[0] for line in gone]
    assert keys == [
        "-   notes", "-     fingerprint", "-     artifact", "-     seal", "-     made_at"
    ]  # fmt: skip


def test_a_run_that_breaks_off_leaves_the_lock(small: Write) -> None:
    folder = small()
    run(folder)
    before = lock_text(folder)
    other_book(folder)
    with pytest.raises(CrashError):
        run(folder, events=Events(Interruption("crash", "tokenizer", 1)))
    assert lock_text(folder) == before


def test_an_artifact_that_was_to_be_made_again_and_was_not_is_not_locked(
    small: Write, cli: Cli
) -> None:
    folder = small()
    before = {"fingerprint": "a" * 64, "artifact": "b" * 64}
    run(folder)
    document = locked(folder)
    document["stages"]["tokenizer"] = before
    (folder / "continuum.lock").write_text(yaml.safe_dump(document, sort_keys=False))
    only(folder, "runs/tokenizer-*/output/tokenizer.json").unlink()
    cli("lock", folder)
    assert locked(folder)["stages"]["tokenizer"] == before


def test_a_trial_of_other_values_does_not_touch_the_lock(small: Write) -> None:
    folder = small()
    run(folder)
    before = lock_text(folder)
    run(folder, Request(overrides=("stages.tokenizer.vocab_size=280",)))
    assert lock_text(folder) == before


def test_a_lock_reads_as_it_was_written(small: Write) -> None:
    folder = small()
    run(folder)
    lock = parse_lockfile(lock_text(folder), "it")
    assert lock.as_yaml() == lock_text(folder)
    numbers = lock.with_pins(
        "book", {"http://x/1e5": "12345678", "y": "1e10", "z": "089", "on": "0x1f"}
    )
    assert parse_lockfile(numbers.as_yaml(), "it") == numbers


def record_versions(folder: Path, stage: str, **versions: str) -> None:
    """Let the stage's record say it was made with these versions."""
    from continuum.runs.files import write_json

    run_ = plan_of(folder).stages[stage].run
    document = {"schema": STAGE_SCHEMA, **run_.record().model_dump(mode="json")}
    document["provenance"]["versions"] |= versions
    write_json(run_.path / "stage.json", document)


def test_versions_are_told_once_and_per_stage_where_they_differ(small: Write) -> None:
    folder = small()
    run(folder)
    record_versions(folder, "book", torch="1.0")
    lock = renew_lockfile(None, plan_of(folder), ("book", "notes", "tokenizer"))
    assert lock is not None
    assert {n: s.versions for n, s in lock.stages.items() if s.versions} == {
        "book": {"torch": "1.0"}
    }
    for name in ("notes", "tokenizer"):
        record_versions(folder, name, torch="1.0")
    renewed = renew_lockfile(lock, plan_of(folder), ("tokenizer",))
    assert renewed is not None
    assert renewed.versions["torch"] == "1.0"
    assert not renewed.stages["book"].versions, "kept, and now of the experiment's version"
    assert renewed.stages["notes"].versions == {"torch": package_versions()["torch"]}


CONFLICT = """\
continuum_lock: 1
experiment: small
versions: {}
stages:
  book:
<<<<<<< HEAD
    fingerprint: aa
    artifact: bb
=======
    fingerprint: cc
    artifact: dd
>>>>>>> branch
"""
WHOLE = "continuum_lock: 1\nexperiment: small\nversions: {}\nstages:\n"
ENTRY = "    fingerprint: aa\n    artifact: bb\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFLICT, "line 6: Git conflict marker; resolve the merge conflict; take one side"),
        (f"{WHOLE}  book:\n{ENTRY}  book:\n{ENTRY}", "line 8: duplicate key 'book'"),
        (f"{WHOLE}  book:\n{ENTRY}{ENTRY}", "line 8: duplicate key 'fingerprint'"),
        (f"{WHOLE}  book: [\n", "line 6: "),
        (f"{WHOLE}\tbook: 1\n", "line 5: "),
        (f"{WHOLE}  ? [a]\n  : b\n", "line 5: "),
        ("\x00", "line 1: "),
        ("", "line 1: "),
        ("- a\n", "the document: Input should be a valid dictionary"),
        ("continuum_lock: 2\nnew_field: 1\n", "version 2 is not supported (expected 1); use the"),
        (f"{WHOLE}  book: {{fingerprint: aa, size: 1}}\n", "stages.book.size: Extra inputs"),
        (f"{WHOLE}  book: {{fingerprint: 2024}}\n", "fingerprint: Input should be a valid string"),
        ("a: " + "[" * 5000, "line 1: "),
    ],
    ids=lambda text: repr(text[-24:]),
)
def test_a_lock_that_is_none_says_where_and_what_to_do(
    text: str, message: str, small: Write, cli: Cli
) -> None:
    folder = small()
    (folder / "continuum.lock").write_text(text, encoding="utf-8")
    told = cli("plan", folder, expect=8).stderr
    assert f"{folder / 'continuum.lock'}" in told
    assert message in told
    assert any(word in told for word in ("restore it from Git", "--ours", "use the release"))
    cli("run", folder, expect=8)
    assert not list(folder.glob("runs/*-*")), "something was started"


def test_a_lock_that_is_no_text_is_refused(small: Write, cli: Cli) -> None:
    folder = small()
    (folder / "continuum.lock").write_bytes(b"\xff\xfe\x00")
    assert "continuum.lock: cannot read the lockfile" in cli("plan", folder, expect=8).stderr
