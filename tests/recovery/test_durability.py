"""What is said to be there survives a power cut: the calls of a real run, in their order.

A file is flushed before the record that lists it is, and the record before the rename that makes it
count. Without one of these calls everything works, until the power fails.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from continuum.runs.records import ARTIFACT_SCHEMA, read_artifact, read_document
from tests.commands import only
from tests.experiments import FIRST_STAGES, small_flow
from tests.tracing import Call, read_calls, traced

CALLS = ("mkdir", "fsync", "fdatasync", "rename", "renameat2")
Place = Callable[..., int]


@pytest.fixture(scope="module")
def run_and_calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call]]:
    """A small experiment that was run, and the calls of all its processes."""
    folder = tmp_path_factory.mktemp("durable")
    spec = small_flow(only=FIRST_STAGES, pretrain__max_steps=10)
    (folder / "experiment.yaml").write_text(spec, encoding="utf-8")
    out = folder / "calls"
    done = traced(out, CALLS, ("-m", "continuum", "run", folder))
    assert done.returncode == 0, done.stderr
    return folder, read_calls(out)


@pytest.fixture(scope="module")
def folder(run_and_calls: tuple[Path, list[Call]]) -> Path:
    return run_and_calls[0]


@pytest.fixture(scope="module")
def place(run_and_calls: tuple[Path, list[Call]]) -> Place:
    """Where in the calls one was made: the number of the first after another, by name and path."""
    calls = run_and_calls[1]

    def find(name: str, path: Path, *, after: int = -1) -> int:
        for number, call in enumerate(calls[after + 1 :], start=after + 1):
            is_same = call.name == name or {call.name, name} == {"fsync", "fdatasync"}
            # Of a rename, the name it makes.
            if is_same and call.paths[-1] == str(path):
                return number
        raise AssertionError(f"no {name} of {path} after call {after}")

    return find


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 10])
def test_a_checkpoint_is_on_the_disk_before_it_counts(
    folder: Path, place: Place, step: int
) -> None:
    checkpoints = only(folder, "runs/pretrain-*/checkpoints")
    final = checkpoints / f"step-{step:08d}"
    temporary = checkpoints / f".{final.name}.tmp"
    manifest = read_artifact(final)
    listed = place("rename", temporary / "manifest.json")
    published = place("rename", final)
    assert len(manifest.files) >= 4
    for file in manifest.files:
        assert place("fsync", temporary / file.path) < listed, file.path
    assert listed < place("fsync", temporary, after=listed) < published
    assert place("fsync", checkpoints, after=published) > published
    assert place("fsync", checkpoints.parent, after=place("mkdir", checkpoints)) < published


@pytest.mark.parametrize("stage", FIRST_STAGES)
def test_an_artifact_is_on_the_disk_before_the_stage_is_complete(
    folder: Path, place: Place, stage: str
) -> None:
    run = only(folder, f"runs/{stage}-*")
    document = read_document(run / "artifact.json", ARTIFACT_SCHEMA)["artifact"]
    complete = place("rename", run / "artifact.json")
    assert document["files"]
    for file in document["files"]:
        assert place("fsync", run / document["path"] / file["path"]) < complete, file["path"]
    assert place("fsync", run / document["path"]) < complete
    assert place("fsync", run, after=complete) > complete


@pytest.mark.parametrize("stage", FIRST_STAGES)
def test_a_run_folder_is_on_the_disk_before_anything_in_it_counts(
    folder: Path, place: Place, stage: str
) -> None:
    run = only(folder, f"runs/{stage}-*")
    made = place("mkdir", run)
    assert made < place("fsync", folder / "runs", after=made) < place("rename", run / "stage.json")


@pytest.mark.parametrize("name", ["stage.json", "artifact.json"])
def test_a_record_is_flushed_before_it_takes_its_name(
    run_and_calls: tuple[Path, list[Call]], folder: Path, place: Place, name: str
) -> None:
    path = only(folder, f"runs/pretrain-*/{name}")
    renamed = place("rename", path)
    assert place("fsync", Path(run_and_calls[1][renamed].paths[0])) < renamed
