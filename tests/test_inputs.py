"""What a stage reads is what was recorded and planned, or the stage is refused."""

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from continuum.errors import ContinuumError, IntegrityError
from continuum.execution.results import RunResult
from continuum.execution.run_stage import run_stage
from continuum.planning.changes import Change
from continuum.planning.plan import Plan
from continuum.runs.artifacts import Artifact
from continuum.runs.events import Event, Trained
from continuum.runs.files import hash_tree
from continuum.runs.folder import StageRun
from continuum.runs.inputs import ProvedFiles
from continuum.sources.token_chunks import read_chunk_folder
from continuum.text.encoding import Encoded, check_ids
from continuum.training.data import Blocks
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.in_process import plan_folder, run_folder
from tests.planning.conftest import Write, small  # noqa: F401  # a fixture
from tests.planning.worlds import text_of
from tests.training.samples import write_split

BEGUN_LONG_AGO = 1_000_000_000.0


def overwrite(path: Path, data: bytes) -> None:
    """Write other bytes with the file's old modification time, as a bad disk does.

    With a new one, `run` would read the file before it reuses the run.
    """
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(path: Path) -> None:
    """Change the last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    overwrite(path, bytes(data))


def spoil_tokens(path: Path) -> None:
    """Other valid tokens in a chunk."""
    data = path.read_bytes()
    overwrite(path, data[:64] + b"\1\0" * ((len(data) - 64) // 2))


def run(
    folder: Path,
    approve: Callable[[Plan], None] = lambda _: None,
    observe: Callable[[str, Event], None] = lambda *_: None,
) -> RunResult:
    """Carry the experiment out in this process; `approve` acts between the plan and the work."""
    return run_folder(folder, observe, before_start=approve)


def run_of(folder: Path, stage: str) -> StageRun:
    return StageRun(only(folder, f"runs/{stage}-*"))


def republish(run: StageRun) -> Artifact:
    """Make another whole artifact, of the same sizes, of what the run has made.

    The lock is removed: it would reveal that the run was resealed.
    """
    (run.experiment_folder / "continuum.lock").unlink()
    made = run.artifact()
    flip(made.path / made.files[0].path)
    return run.complete(made.model_copy(update={"files": (), "digest": ""}))


# The stamps of files.


def prepared(folder: Path) -> tuple[Path, ProvedFiles]:
    (folder / "a").write_bytes(b"recorded")
    os.utime(folder / "a", (BEGUN_LONG_AGO, BEGUN_LONG_AGO))
    return folder / "a", ProvedFiles("tokens@final", folder, hash_tree(folder))


def test_changed_bytes_are_refused_by_name_with_what_to_do(tmp_path: Path) -> None:
    path, proved = prepared(tmp_path)
    proved.prove(["a"])
    flip(path)
    with pytest.raises(IntegrityError, match=r"tokens@final: .* a does not match.*--rerun tokens"):
        proved.prove(["a"])
    with pytest.raises(IntegrityError, match="a does not match its recorded checksum"):
        proved.prove_again()


def test_a_file_that_was_never_read_is_not_proved(tmp_path: Path) -> None:
    _, proved = prepared(tmp_path)
    assert not proved.are_unchanged("a")
    with pytest.raises(IntegrityError, match="b is not recorded"):
        proved.prove(["b"])


def test_an_edit_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    path, proved = prepared(tmp_path)
    before = path.stat()
    while not proved.are_unchanged("a"):  # A file of this moment can change without a trace.
        proved.prove(["a"])
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not proved.are_unchanged("a")


def test_a_touched_file_with_the_same_content_is_verified_again(tmp_path: Path) -> None:
    path, proved = prepared(tmp_path)
    proved.prove(["a"])
    path.touch()
    assert not proved.are_unchanged("a")
    proved.prove(["a"])


def test_a_file_from_the_future_is_still_proved(tmp_path: Path) -> None:
    path, proved = prepared(tmp_path)
    os.utime(path, (2**32, 2**32))
    proved.prove(["a"])
    assert proved.are_unchanged("a"), "else its blocks would be hashed for ever"
    assert proved.are_unchanged("a")


@pytest.fixture(scope="module")
def finished(run_once: Callable[[str], Path]) -> Path:
    """Text, tokenizer, tokens and a short training, all done."""
    return run_once(
        small_flow(only=FIRST_STAGES, pretrain__max_steps=10, pretrain__runtime__log_every=1)
    )


@pytest.fixture
def data(finished: Path, tmp_path: Path) -> Path:
    """The same folder with the training still to do."""
    folder = shutil.copytree(finished, tmp_path / "data")
    shutil.rmtree(only(folder, "runs/pretrain-*"))
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "train/chunk-*.bin",
        "validation/chunk-*.bin",
        "train/index.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_training_refuses_token_data_with_other_bytes(data: Path, name: str) -> None:
    path = only(data, f"runs/tokens-*/output/{name}")
    if path.suffix == ".bin":
        spoil_tokens(path)
    else:
        flip(path)
    outcome = run(data).outcomes["pretrain"]
    assert outcome.status == "damaged"
    assert f"{path.parent.name}/{path.name} does not match its recorded checksum" in outcome.message
    assert "rebuild it with `continuum run --rerun tokens`" in outcome.message


def test_the_command_refuses_an_overwritten_chunk(data: Path, cli: Cli) -> None:
    path = only(data, "runs/tokens-*/output/train/chunk-*.bin")
    spoil_tokens(path)
    told = cli("run", data, expect=8).stderr
    assert f"train/{path.name} does not match its recorded checksum" in told
    assert not list(data.glob("runs/pretrain-*/artifact.json"))


@pytest.mark.parametrize("name", ["train/chunk-*.bin", "tokenizer/tokenizer.json"])
def test_token_data_that_changes_while_it_is_trained_on_is_noticed(data: Path, name: str) -> None:
    path = only(data, f"runs/tokens-*/output/{name}")

    def damage(stage: str, event: Event) -> None:
        if stage == "pretrain" and isinstance(event, Trained) and event.step == 1:
            flip(path)

    outcome = run(data, observe=damage).outcomes["pretrain"]
    assert outcome.status == "damaged"
    assert path.name in outcome.message
    assert not list(data.glob("runs/pretrain-*/checkpoints/step-*"))


@pytest.mark.parametrize("stage", ["tokens", "tokenizer"])
def test_a_corpus_with_other_bytes_is_not_read(data: Path, stage: str) -> None:
    shutil.rmtree(only(data, f"runs/{stage}-*"))
    flip(only(data, "runs/prose-*/output/*"))
    outcome = run(data).outcomes[stage]
    assert outcome.status == "damaged"
    assert "topics.py does not match its recorded checksum; rebuild" in outcome.message
    assert "`continuum run --rerun prose`" in outcome.message


# Between the plan and the work.


def test_a_replaced_input_is_refused_by_the_worker(data: Path) -> None:
    tokens = run_of(data, "tokens")

    run(data)
    pretrain = run_of(data, "pretrain")
    (pretrain.path / "artifact.json").unlink()
    republish(tokens)
    with pytest.raises(IntegrityError, match="was replaced since the plan was made"):
        run_stage(pretrain, pretrain.record(), lambda _: None)


def test_an_input_of_the_same_size_and_other_bytes_runs_the_stage_again(data: Path) -> None:
    run(data)
    assert not plan_folder(data).has_work
    old = run_of(data, "tokenizer").artifact()
    new = republish(run_of(data, "tokenizer"))
    assert [f.size_bytes for f in new.files] == [f.size_bytes for f in old.files]
    (reason,) = plan_folder(data).stages["tokens"].reasons
    assert reason == Change("digest", "tokenizer", old.digest, new.digest)


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
@pytest.mark.parametrize("kind", ["fetch", "import", "linked import"])
def test_local_files_that_change_after_the_plan_are_refused(
    small: Write,  # noqa: F811  # the fixture
    kind: str,
    change: str,
) -> None:
    stages = {
        "fetch": {"kind": "fetch", "sources": [{"path": "in/*.txt"}]},
        "import": {"kind": "import", "path": "in", "as": "corpus"},
        "linked import": {"kind": "import", "path": "in", "as": "corpus", "link": True},
    }
    folder = small(book=stages[kind], tokenizer=None, notes=None)
    (folder / "in").mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / "in" / name).write_bytes(text_of("book", 0))

    def act(plan: Plan) -> None:
        if change == "changed":
            (folder / "in/a.txt").write_bytes(text_of("book", 1))
        elif change == "removed":
            (folder / "in/a.txt").unlink()
        else:
            (folder / "in/c.txt").write_bytes(text_of("book", 1))

    outcome = run(folder, act).outcomes["book"]
    assert outcome.status == "damaged"
    changed = "c.txt" if change == "added" else "a.txt"
    assert f"{changed} was {change} after the plan was made" in outcome.message
    assert "run again" in outcome.message
    assert not list(folder.glob("runs/book-*/artifact.json"))
    assert run(folder).outcomes["book"].status == "done"


# Tokens that no tokenizer gave.


@pytest.mark.parametrize("num_ids", [9, 10])
def test_an_id_equal_to_the_vocabulary_is_refused_wherever_tokens_are_checked(
    tmp_path: Path, num_ids: int
) -> None:
    ids = np.arange(10, dtype=np.uint32)  # The largest is 9: one too many for 9 ids.
    write_split(tmp_path, ids.tolist())
    encoded = Encoded(ids, np.array([10], dtype=np.int64))
    checks: list[Callable[[], object]] = [
        lambda: Blocks(tmp_path, 9, num_ids).read(0),
        lambda: read_chunk_folder(tmp_path).check(num_ids),
        lambda: check_ids(encoded, num_ids),
    ]
    for check in checks:
        with pytest.raises(ContinuumError) if num_ids == 9 else nullcontext():
            check()
