"""Killed with -9 while all loggers follow it: one run in each, and the same best checkpoint."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from continuum.runs.folder import StageRun
from tests.commands import Cli, kill_group, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.recovery.test_kill import run_until
from tests.training.mirrored import ALL, check_run

STEPS = 60


def spec(processes: int = 1) -> str:
    return small_flow(
        only=(*FIRST_STAGES, "weights"),
        pretrain__max_steps=STEPS,
        pretrain__optimizer={"lr": 2e-2},
        pretrain__evaluate={"every": 3, "sequences": 8},
        pretrain__runtime={
            "devices": processes,
            "micro_batch_size": 4,
            "loggers": ALL,
            "checkpoint": {"every": 5},
        },
        weights__from="pretrain@best",
    )


@pytest.fixture(scope="module")
def unbroken(run_once: Callable[[str], Path]) -> Path:
    return run_once(spec())


@pytest.fixture
def prepared(unbroken: Path, tmp_path: Path) -> Path:
    """The data made, the training still to do."""
    folder = tmp_path / "interrupted"
    shutil.copytree(unbroken, folder)
    for stage in ("pretrain", "weights"):
        shutil.rmtree(only(folder, f"runs/{stage}-*"))
    return folder


def has_taken(folder: Path, step: int) -> bool:
    """Whether the interrupted run has a row of this step."""
    found = [StageRun(path) for path in folder.glob("runs/pretrain-*")]
    return any(row["step"] >= step for run in found for row in run.metrics())


def best(folder: Path) -> dict[str, object]:
    record = json.loads(only(folder, "runs/weights-*/stage.json").read_text())
    (used,) = record["inputs"]
    assert used["ref"] == "pretrain@best"
    return {"step": used["step"], "digest": used["digest"]}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_is_one_run_in_every_logger(
    unbroken: Path, prepared: Path, cli: Cli, processes: int
) -> None:
    (prepared / "experiment.yaml").write_text(spec(processes), encoding="utf-8")
    for step in (13, 27):  # Behind the checkpoints of steps 10 and 25, or that of a best step.
        kill_group(run_until(prepared, partial(has_taken, prepared, step)))
    told = cli("run", prepared).stderr
    assert "pretrain: resuming from step" in told
    assert "warning: the logger" not in told
    check_run(StageRun(only(prepared, "runs/pretrain-*")), ALL, num_steps=STEPS)
    if processes == 1:
        assert best(prepared) == best(unbroken)


@pytest.mark.slow
def test_what_wandb_would_upload_is_one_run(unbroken: Path) -> None:
    folder = only(unbroken, "runs/pretrain-*/loggers/wandb/wandb")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--dry-run", folder],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Would sync 1 run(s)" in done.stderr + done.stdout
