"""A disk that is full, at many different moments: told in one line, nothing lost, then finished.

The disk is a small tmpfs, filled to the block: before the run, so that a certain file is the first
that does not fit, or while it runs, when something has appeared.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from continuum.runs.files import FileDigest, find_damage, hash_tree
from continuum.runs.folder import ExperimentFolder
from tests.commands import Cli, kill_group, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.recovery.disks import SmallDisk, small_disk


@dataclass(frozen=True)
class Moment:
    """When the disk is full, and what is told then."""

    name: str
    remade: str
    """The stage that is to be made; `*` for all of them, in a folder with nothing but the spec."""
    blocks: int
    """Left free."""
    told: str
    """In the error."""
    appears: str | None = None
    """Fill the disk when this path is there; None before the run."""


# Each record is one block; the corpus is 185, the converted weights and what goes with them 68.
MOMENTS = [
    Moment("the folder's first file", "*", 0, ".gitignore"),
    Moment("the folder's lock", "*", 1, "runs/.owner.json"),
    Moment("the digest cache", "*", 2, "runs/.digests.json"),
    Moment("a stage's record", "*", 3, "stage.json"),
    Moment("an attempt's record", "*", 4, "attempts.jsonl"),
    Moment("a corpus", "*", 60, "topics.py"),
    Moment("an artifact's record", "*", 192, "artifact.json"),
    Moment("a tokenizer", "tokenizer", 4, "output/tokenizer.json"),
    Moment("token chunks, known before", "tokens", 30, "its output takes about"),
    Moment("token chunks", "tokens", 20, "runs/tokens-", "attempts.jsonl"),
    Moment("training, known before", "pretrain", 60, "checkpoints of about"),
    Moment("what auto became", "pretrain", 0, "resolved.json", "attempts.jsonl"),
    Moment("metrics", "pretrain", 1, "cannot write the metrics", "resolved.json"),
    Moment("a checkpoint's state", "pretrain", 60, "cannot be written", "metrics.jsonl"),
    Moment(
        "a checkpoint's last files",
        "pretrain",
        2,
        "cannot be written",
        "checkpoints/.step-00000020.tmp/lit_model.pth",
    ),
    Moment("converted weights, known before", "weights", 30, "its output takes about"),
    Moment("the weights' record", "weights", 70, "artifact.json"),
    Moment("the ancestry graph", "weights", 72, "lineage.json"),
]
SOURCE_LINE = re.compile(r" *\d* \| ")
"""Of the spec, below an error that the plan knows."""
ALL_STAGES = (*FIRST_STAGES, "weights")
DATA_STAGES = ("prose", "tokenizer", "tokens")


@pytest.fixture(scope="module")
def unbroken(run_once: Callable[[str], Path]) -> Path:
    """An experiment whose disk was never full."""
    return run_once(spec(ALL_STAGES))


def spec(stages: tuple[str, ...]) -> str:
    changes: dict[str, Any] = {}
    if "weights" in stages:
        changes["pretrain__max_steps"] = 60
        changes["pretrain__runtime__log_every"] = 1
        changes["pretrain__runtime__checkpoint"] = {"every": 10, "keep_last": 9}
        changes["weights__from"] = "pretrain"
    return small_flow(only=stages, **changes)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "24m") as disk:
        yield disk


def prepare(unbroken: Path, disk: SmallDisk, remade: str) -> Path:
    """A copy on the disk in which a stage is still to be made."""
    folder = disk.path / "experiment"
    if remade == "*":
        folder.mkdir()
    else:
        shutil.copytree(unbroken, folder)
        shutil.rmtree(only(folder, f"runs/{remade}-*"))
        (folder / "lineage.json").unlink()
    if remade not in ("pretrain", "weights"):
        # With training in the plan, a disk without room for a checkpoint is refused at once.
        (folder / "experiment.yaml").write_text(spec(DATA_STAGES), encoding="utf-8")
    return folder


def outputs(folder: Path) -> dict[str, tuple[FileDigest, ...]]:
    """The bytes of what every stage has made."""
    return {run.name: hash_tree(run.output_dir) for run in ExperimentFolder(folder).runs()}


def run_until_full(folder: Path, disk: SmallDisk, moment: Moment) -> tuple[int, str]:
    """Run on a disk that is, or becomes, full; the exit code and what was told."""
    if moment.appears is None:
        disk.fill(leaving_blocks=moment.blocks)
    process = Cli().start("run", folder)
    try:
        pattern = f"runs/{moment.remade}-*/{moment.appears}"
        while moment.appears is not None and process.poll() is None:
            if list(folder.glob(pattern)):
                disk.fill(leaving_blocks=moment.blocks)
                break
            time.sleep(0.0005)
        _, told = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            kill_group(process)
    return process.returncode, told


def check_told(code: int, told: str, expected: str, disk: SmallDisk) -> None:
    """One error, the last, of one line: what did not fit, where, and what to do.

    If the plan knows it, the line is below "nothing was started" and above the spec's.
    """
    assert code in (4, 5), told
    assert "Traceback" not in told
    error = f"\n{told}".rpartition("\nerror: ")[2].strip()
    assert expected in error
    assert str(disk.path) in error or "experiment's disk" in error
    assert "No space left on device" in error or "are free" in error
    said = [line for line in error.splitlines() if line and not SOURCE_LINE.match(line)]
    assert len(said) <= 2, error


def check_whole(folder: Path, unbroken: Path, remade: str) -> None:
    """What is published is what it was to be, and no checkpoint is torn."""
    made = outputs(unbroken)
    for run in ExperimentFolder(folder).runs():
        if run.is_complete:
            assert hash_tree(run.output_dir) == made[run.name]
        for checkpoint in run.checkpoints():
            assert find_damage(checkpoint.path, checkpoint.files, read=True) == []
        published = [path for path in run.checkpoints_dir.glob("step-*")]
        assert len(published) == len(run.checkpoints())
    if remade != "*":
        assert {run.stage_name for run in ExperimentFolder(folder).runs() if run.is_complete} >= {
            *FIRST_STAGES
        } - {remade}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda it: it.name)
def test_a_disk_that_is_full_loses_nothing(
    moment: Moment, unbroken: Path, disk: SmallDisk, cli: Cli
) -> None:
    folder = prepare(unbroken, disk, moment.remade)
    code, told = run_until_full(folder, disk, moment)
    check_told(code, told, moment.told, disk)
    check_whole(folder, unbroken, moment.remade)
    disk.free()
    cli("run", folder)
    if moment.remade not in ("pretrain", "weights"):
        (folder / "experiment.yaml").write_text(spec(ALL_STAGES), encoding="utf-8")
        cli("run", folder)
    assert outputs(folder) == outputs(unbroken)
