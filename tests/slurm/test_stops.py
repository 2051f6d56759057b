"""Slurm stops, kills and requeues a run over two nodes: nothing is lost, nobody is left behind."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import only
from tests.slurm.cluster import NODES, Cluster
from tests.slurm.conftest import UNBROKEN_STEPS, spec
from tests.slurm.jobs import Job, submit, submit_script

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
EXAMPLE = Path(__file__).parent.parent.parent / "configs" / "slurm.sbatch"
SECONDS = 30.0
"""What "at once" may take on a busy machine."""
SLOW = pytest.mark.slow
STOPS = [
    pytest.param(["--batch", "--signal=USR1"], id="usr1-to-the-run", marks=SLOW),
    pytest.param(["--signal=USR1"], id="usr1-to-the-ranks"),
    pytest.param(["--signal=TERM"], id="term-to-the-ranks", marks=SLOW),
    pytest.param(["--full", "--signal=USR1"], id="usr1-to-everything", marks=SLOW),
    pytest.param(["--full", "--signal=USR2"], id="usr2-to-everything", marks=SLOW),
]


def has_saved(folder: Path) -> Callable[[], bool]:
    return lambda: bool(list(folder.glob("runs/pretrain-*/checkpoints/step-*/manifest.json")))


def final_bytes(folder: Path) -> bytes:
    return only(folder, "runs/pretrain-*/output/lit_model.pth").read_bytes()


def training(slurm: Cluster, folder: Path, *options: str) -> Job:
    """A job that has saved once and goes on."""
    job = submit(slurm, folder, *options)
    job.waits_for(has_saved(folder))
    return job


@pytest.mark.parametrize("stop", STOPS)
def test_a_signal_saves_and_the_same_job_again_ends_with_the_same_bytes(
    stop: list[str], slurm: Cluster, prepare: Callable[[str], Path], unbroken: bytes
) -> None:
    folder = prepare(spec(2, 1, "ddp", steps=UNBROKEN_STEPS))
    job = training(slurm, folder)
    slurm.call("scancel", *stop, job.number)
    assert job.ends() == ("FAILED", 75), job.told()
    assert "pretrain: stopped after step" in job.told()
    assert not list(folder.glob("runs/pretrain-*/artifact.json"))
    again = submit(slurm, folder)
    assert again.ends() == ("COMPLETED", 0), again.told()
    assert "pretrain: resuming from step" in again.told()
    assert final_bytes(folder) == unbroken


@pytest.mark.slow
def test_a_closed_terminal_around_two_nodes_saves(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    """As after `salloc`: SIGHUP reaches the run and `srun`, which must not end its ranks."""
    job = training(slurm, prepare(spec(2, 1, "ddp", steps=UNBROKEN_STEPS)))
    os.killpg(os.getpgid(job.run()), signal.SIGHUP)
    assert job.ends() == ("FAILED", 75), job.told()
    assert "pretrain: stopped after step" in job.told()


@pytest.mark.slow
def test_a_requeued_job_resumes(
    slurm: Cluster, prepare: Callable[[str], Path], unbroken: bytes
) -> None:
    """By an administrator or a preemption: everything gets SIGTERM, and the run saves in time."""
    folder = prepare(spec(2, 1, "ddp", steps=UNBROKEN_STEPS))
    job = training(slurm, folder, "--requeue")
    slurm.call("scontrol", "requeue", job.number)
    assert job.ends() == ("COMPLETED", 0), job.told()
    assert job.field("Restarts") == "1"
    assert "pretrain: stopped after step" in job.told()
    assert "pretrain: resuming from step" in job.told()
    assert final_bytes(folder) == unbroken


def test_a_rank_killed_on_the_second_node_is_named(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    folder = prepare(spec(2, 2, "ddp", steps=100_000))
    job = training(slurm, folder, "--cpus-per-task=2")
    killed_at = time.monotonic()
    os.kill(job.ranks(NODES[1])[3], signal.SIGKILL)
    assert job.ends() == ("FAILED", 5), job.told()
    assert time.monotonic() - killed_at < SECONDS
    assert f"pretrain: rank 3 on {NODES[1]} was killed by SIGKILL" in job.told()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["agent", "run"])
def test_no_rank_outlives_those_that_started_it(
    victim: str, slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    folder = prepare(spec(2, 1, "fsdp", steps=100_000))
    job = training(slurm, folder)
    killed_at = time.monotonic()
    os.kill(job.run() if victim == "run" else job.agent(NODES[1]), signal.SIGKILL)
    state, _ = job.ends()
    assert state == "FAILED"
    assert time.monotonic() - killed_at < SECONDS


@pytest.mark.slow
def test_a_rank_that_does_not_stop_is_killed_with_the_others(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    folder = prepare(spec(2, 1, "ddp", steps=100_000))
    body = f"exec {sys.executable} -m continuum run {folder} --grace 3"
    job = submit(slurm, folder, body=body)
    job.waits_for(has_saved(folder))
    os.kill(job.ranks(NODES[1])[1], signal.SIGSTOP)
    slurm.call("scancel", "--batch", "--signal=USR1", job.number)
    assert job.ends() == ("FAILED", 5), job.told()
    assert "pretrain: did not stop within 3 s and was killed" in job.told()


def test_the_example_requeues_itself_and_its_successor_waits(
    slurm: Cluster, prepare: Callable[[str], Path], unbroken: bytes
) -> None:
    folder = prepare(spec(2, 1, "ddp", steps=UNBROKEN_STEPS))
    job = submit_script(slurm, folder, EXAMPLE, folder)
    successor = submit(slurm, folder, f"--dependency=afterok:{job.number}")
    job.waits_for(has_saved(folder))
    slurm.call("scancel", "--batch", "--signal=USR1", job.number)  # as --signal=B:USR1@120 does
    assert job.ends() == ("COMPLETED", 0), job.told()
    assert job.field("Restarts") == "1"
    assert final_bytes(folder) == unbroken
    assert successor.ends() == ("COMPLETED", 0), successor.told()
    assert successor.told().count("reused") == 4


@pytest.mark.slow
def test_a_cancelled_example_saves_and_stays_cancelled(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    folder = prepare(spec(2, 1, "ddp", steps=100_000))
    job = submit_script(slurm, folder, EXAMPLE, folder)
    job.waits_for(has_saved(folder))
    slurm.call("scancel", job.number)
    assert job.ends()[0] == "CANCELLED", job.told()
    assert "pretrain: stopped after step" in job.told()
    assert job.field("Restarts") == "0"
