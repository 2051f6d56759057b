"""Killed with -9, run again: nothing lost but time, and the same bytes at the end."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum.runs.folder import StageRun
from tests.commands import Cli, kill_group, only, wait_until
from tests.experiments import FIRST_STAGES, small_flow

CHECKPOINTS = "runs/pretrain-*/checkpoints"


SPEC = small_flow(only=FIRST_STAGES, pretrain__max_steps=60, pretrain__runtime__log_every=1)


@pytest.fixture(scope="module")
def unbroken(run_once: Callable[[str], Path]) -> Path:
    """A pretraining that was never interrupted."""
    return run_once(SPEC)


@pytest.fixture
def prepared(unbroken: Path, tmp_path: Path) -> Path:
    """The same experiment with its data made and pretraining still to do."""
    folder = tmp_path / "interrupted"
    shutil.copytree(unbroken, folder)
    shutil.rmtree(only(folder, "runs/pretrain-*"))
    return folder


def final_weights(folder: Path) -> bytes:
    return only(folder, "runs/pretrain-*/output/lit_model.pth").read_bytes()


def losses(folder: Path) -> list[tuple[int, object, object]]:
    import json

    found = list(folder.glob("runs/pretrain-*/metrics.jsonl"))
    lines = found[0].read_text().splitlines() if found else []
    rows = [json.loads(line) for line in lines]
    return [(row["step"], row.get("loss"), row.get("val_loss")) for row in rows]


def has_checkpoint(folder: Path, at_least: int) -> bool:
    return len(list(folder.glob(f"{CHECKPOINTS}/step-*"))) >= at_least


def is_writing(folder: Path) -> bool:
    return bool(list(folder.glob(f"{CHECKPOINTS}/.step-*.tmp/lit_model.pth")))


def run_until(folder: Path, condition: Callable[[], bool]) -> subprocess.Popen[str]:
    process = Cli().start("run", folder)
    wait_until(lambda: condition() or process.poll() is not None)
    return process


def test_a_killed_pretraining_ends_with_the_same_bytes(
    unbroken: Path, prepared: Path, cli: Cli
) -> None:
    kill_group(run_until(prepared, lambda: has_checkpoint(prepared, 2)))
    assert not list(prepared.glob("runs/pretrain-*/artifact.json"))
    assert "recover" in cli("plan", prepared).stdout
    told = cli("run", prepared).stderr
    assert "pretrain: resuming from step" in told
    ends = [it for it in StageRun(only(prepared, "runs/pretrain-*")).attempts() if "status" in it]
    assert [(end["attempt"], end["status"]) for end in ends] == [(1, "killed"), (2, "done")]
    assert "recorded by the next run" in ends[0]["message"]
    assert final_weights(prepared) == final_weights(unbroken)
    assert losses(prepared) == losses(unbroken)


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    unbroken: Path, prepared: Path, cli: Cli
) -> None:
    kill_group(run_until(prepared, lambda: has_checkpoint(prepared, 1) and is_writing(prepared)))
    assert is_writing(prepared), "the kill came too late"
    cli("run", prepared)
    assert not is_writing(prepared)
    assert final_weights(prepared) == final_weights(unbroken)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(unbroken: Path, prepared: Path, cli: Cli) -> None:
    kill_group(run_until(prepared, lambda: has_checkpoint(prepared, 3)))
    newest = max(prepared.glob(f"{CHECKPOINTS}/step-*"))
    weights = newest / "lit_model.pth"
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    told = cli("run", prepared).stderr
    assert f"{newest.name} is corrupt; skipped" in told
    assert final_weights(prepared) == final_weights(unbroken)


def test_a_worker_that_dies_is_reported_and_publishes_nothing(prepared: Path) -> None:
    process = run_until(prepared, lambda: has_checkpoint(prepared, 1))
    (worker,) = workers_of(process.pid)
    subprocess.run(["kill", "-9", str(worker)], check=True)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "pretrain: killed: the worker was killed by SIGKILL" in told
    assert not list(prepared.glob("runs/pretrain-*/artifact.json"))


@pytest.mark.slow
def test_a_worker_does_not_outlive_its_run(prepared: Path) -> None:
    process = run_until(prepared, lambda: has_checkpoint(prepared, 1))
    (worker,) = workers_of(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), timeout_s=10)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stopped_run_saves_first_and_says_run_me_again(
    number: signal.Signals, unbroken: Path, prepared: Path, cli: Cli
) -> None:
    process = run_until(prepared, lambda: has_checkpoint(prepared, 1))
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75, told
    assert "pretrain: stopped" in told
    cli("run", prepared)
    assert final_weights(prepared) == final_weights(unbroken)


def workers_of(run: int) -> list[int]:
    """The worker processes of a run: forked from its fork server, with its log as stdout."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            log = (process / "fd/1").resolve()
            group = int((process / "stat").read_text().rpartition(")")[2].split()[2])
        except OSError:
            continue
        if group == run and log.name == "log.txt":
            found.append(int(process.name))
    return found
