"""Every reason a plan can give, from a real folder in the state it speaks of."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from continuum.planning.changes import ABSENT, CODES, Change
from continuum.planning.plan import NOTHING_MORE, Cause, Reason, Request
from continuum.runs.folder import StageRun
from tests.commands import only
from tests.planning.carrying_out import plan_of, run
from tests.planning.conftest import Write
from tests.planning.edits import edit, other_book
from tests.planning.worlds import text_of
from tests.servers.texts import TextServer, serve_texts


@dataclass
class Case:
    """A state of the folder, and what the plan says of one stage in it."""

    stage: str
    action: str
    code: str
    words: str
    fields: dict[str, Any]
    prepare: Callable[[Path], None] = lambda folder: None
    request: Request = NOTHING_MORE
    is_run: bool = True


def no_book(folder: Path) -> None:
    (folder / "book.txt").unlink()


def cut_output(folder: Path) -> None:
    only(folder, "runs/book-*/output/*").write_bytes(b"")


def lose_record(folder: Path) -> None:
    only(folder, "runs/book-*/stage.json").write_text("{", encoding="utf-8")


def lose_artifact(folder: Path) -> None:
    only(folder, "runs/book-*/artifact.json").unlink()


def ends(status: str) -> Callable[[Path], None]:
    """The last attempt of the book's run ended so; `interrupted` has no end."""

    def prepare(folder: Path) -> None:
        lose_artifact(folder)
        run = StageRun(only(folder, "runs/book-*"))
        run.log_attempt("started", attempt=2, at="2026-01-01")
        if status != "interrupted":
            message = "why; last lines of log.txt:\n    a line"
            run.log_attempt("ended", attempt=2, status=status, message=message)

    return prepare


ENDINGS = [
    Case("book", "run", status, f"{status}: why; starts over", {"step": None, "how": "why"},
         ends(status))
    for status in ("stopped", "failed", "crashed", "killed", "refused")
]  # fmt: skip
CASES = [
    *ENDINGS,
    Case(
        "book", "run", "interrupted", "interrupted; starts over", {"step": None},
        ends("interrupted"),
    ),
    Case(
        "book", "run", "never-run", "never run", {}, is_run=False),
    Case(
        "book", "reuse", "complete", "complete", {}),
    Case(
        "tokenizer", "run", "field-changed", "vocab_size changed: 270 -> 280",
        {"path": "vocab_size", "old": 270, "new": 280, "role": "identity"},
        edit("vocab_size: 270", "vocab_size: 280"),
    ),
    Case(
        "tokenizer", "run", "field-changed",
        "special_tokens changed: [] -> [<|pad|>]",
        {"path": "special_tokens", "old": [], "new": ["<|pad|>"], "role": "identity"},
        edit("vocab_size: 270", "vocab_size: 270\n    special_tokens: [<|pad|>]"),
    ),
    Case(
        "book", "run", "field-changed", "sources.0.format changed: (absent) -> txt",
        {"path": "sources.0.format", "old": ABSENT, "new": "txt", "role": "identity"},
        edit("path: book.txt", "path: book.txt\n      format: txt"),
    ),
    Case(
        "book", "run", "input-changed", "content of 0/book.txt changed: ",
        {"name": "0/book.txt"}, other_book,
    ),
    Case(
        "tokenizer", "run", "upstream-changed", "book changed", {"ref": "book"},
        other_book,
    ),
    Case(
        "tokenizer", "check", "upstream-runs-again", "book will be rebuilt; reused if",
        {"ref": "book"}, request=Request(rerun=frozenset({"book"})),
    ),
    Case(
        "book", "run", "damaged", "damaged: artifact.json is missing; starts over",
        {"step": None, "how": "artifact.json is missing"}, lose_artifact,
    ),
    Case(
        "book", "run", "artifact-damaged", "damaged: 00000-book",
        {"what": "00000-book.txt has 0 bytes, expected "}, cut_output,
    ),
    Case(
        "book", "run", "artifact-damaged", "stage.json is not valid JSON",
        {}, lose_record,
    ),
    Case(
        "book", "run", "forced", "requested by --rerun", {},
        request=Request(rerun=frozenset({"book"})),
    ),
    Case(
        "book", "blocked", "problem", "book.txt: file not found",
        {}, no_book,
    ),
    Case(
        "tokenizer", "blocked", "waits-for", "waits for book", {"stage": "book"},
        no_book,
    ),
]  # fmt: skip
TOLD_ELSEWHERE = {"pin-changed", "new-version", "renamed", "running"}
"""In a test of its own below, in `test_upgrade`, `test_renames` and `flow/test_states.py`."""


def test_every_reason_has_a_case() -> None:
    codes = {code for code, _ in CODES.values()} | set(Cause)
    assert {case.code for case in CASES} | TOLD_ELSEWHERE == codes


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.words[:20]}")
def test_a_plan_says_why(case: Case, small: Write) -> None:
    folder = small()
    if case.is_run:
        run(folder)
    case.prepare(folder)
    planned = plan_of(folder, case.request).stages[case.stage]
    assert planned.action.value == case.action
    (reason,) = planned.reasons
    told = json.loads(json.dumps(reason.as_json()))
    assert told["code"] == case.code
    assert case.words in told["text"]
    for name, value in case.fields.items():
        found = told[name]
        assert found.startswith(value) if isinstance(value, str) else found == value


def test_all_changes_are_told_at_once(small: Write) -> None:
    folder = small()
    run(folder)
    edit("path: book.txt", "path: book.txt\n      encoding: latin-1\n      format: txt")(folder)
    other_book(folder)
    edit("vocab_size: 270", "vocab_size: 280\n    min_frequency: 3")(folder)
    plan = plan_of(folder)
    assert [str(reason).split(":")[0] for reason in plan.stages["book"].reasons] == [
        "sources.0.encoding changed",
        "sources.0.format changed",
        "content of 0/book.txt changed",
    ]
    assert [str(reason).split(":")[0] for reason in plan.stages["tokenizer"].reasons] == [
        "min_frequency changed",
        "vocab_size changed",
        "book changed",
    ]


def test_a_file_that_comes_or_goes_is_named(small: Write) -> None:
    folder = small(book={"kind": "fetch", "sources": [{"path": "*.txt"}]})
    run(folder)
    (folder / "notes.txt").rename(folder / "words.txt")
    plan = plan_of(folder)
    assert [str(reason) for reason in plan.stages["book"].reasons] == [
        "0/notes.txt was removed",
        "0/words.txt was added",
    ]


def test_a_pin_of_the_lock_that_was_not_used_is_named(small: Write) -> None:
    texts: TextServer
    with serve_texts({"/a.txt": text_of("a", 0)}) as texts:
        url = f"{texts.url}/a.txt"
        folder = small(book={"kind": "fetch", "sources": [{"url": url}]})
        run(folder)
    lock = folder / "continuum.lock"
    pin = next(line.split()[-1] for line in lock.read_text().splitlines() if url in line)
    lock.write_text(lock.read_text().replace(pin, "c" * 64))
    (reason,) = plan_of(folder).stages["book"].reasons
    assert reason.as_json() == {
        "code": "pin-changed",
        "text": f"continuum.lock pins {url} to {'c' * 12}, not {pin[:12]}",
        "source": url,
        "old": pin,
        "new": "c" * 64,
    }


def test_an_interrupted_training_says_from_where_it_goes_on(crashed: Path) -> None:
    planned = plan_of(crashed).stages["pretrain"]
    assert (planned.action.value, planned.from_step) == ("recover", 4)
    assert planned.reasons == (Reason(Cause.INTERRUPTED, step=4),)
    assert planned.reasons[0].as_json() == {
        "code": "interrupted",
        "text": "interrupted; resumes from step 4",
        "step": 4,
    }


def test_a_recovery_tells_how_the_work_is_done_otherwise(crashed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(crashed, folder)
    edit("micro_batch_size: 2", "micro_batch_size: 1")(folder)
    interrupted, runtime = plan_of(folder).stages["pretrain"].reasons
    assert interrupted == Reason(Cause.INTERRUPTED, step=4)
    assert runtime == Change("field", "runtime.micro_batch_size", 2, 1, "runtime")
    assert str(runtime) == "runtime.micro_batch_size changed: 2 -> 1 (runtime)"


def test_a_recovery_whose_data_is_made_again_says_so(crashed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(crashed, folder)
    request = Request(rerun=frozenset({"book_tokens"}))
    planned = plan_of(folder, request).stages["pretrain"]
    assert planned.reasons == (
        Reason(Cause.INTERRUPTED, step=4),
        Reason(Cause.UPSTREAM_RUNS_AGAIN, "book_tokens"),
    )
