"""Training on two nodes of a real Slurm: what one process learns, wherever the job puts it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import only
from tests.experiments import small_flow
from tests.flow.foreign_modules import executed, plant, plant_checkout
from tests.slurm.cluster import GPUS_PER_NODE, NODES, Cluster
from tests.slurm.conftest import spec
from tests.slurm.jobs import submit

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
SLOW = pytest.mark.slow
TOPOLOGIES = [
    pytest.param(1, "ddp", marks=SLOW),
    (1, "fsdp"),
    (2, "ddp"),
    pytest.param(2, "fsdp", marks=SLOW),
]


def losses(folder: Path) -> list[float]:
    lines = only(folder, "runs/pretrain-*/metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if row.get("loss")]


@pytest.mark.parametrize(("devices", "strategy"), TOPOLOGIES)
def test_nodes_together_learn_what_one_process_does(
    devices: int, strategy: str, slurm: Cluster, alone: Path, prepare: Callable[[str], Path]
) -> None:
    folder = prepare(spec(2, devices, strategy))
    # Processors for every rank below the one task of a node.
    job = submit(slurm, folder, "--ntasks-per-node=1", f"--cpus-per-task={devices}")
    assert job.ends() == ("COMPLETED", 0), job.told()
    assert losses(folder) == pytest.approx(losses(alone), abs=1e-5)
    resolved = json.loads(only(folder, "runs/pretrain-*/resolved.json").read_text())
    assert (resolved["world_size"], resolved["strategy"]) == (2 * devices, strategy)
    saved = only(folder, "runs/pretrain-*/checkpoints/step-*/manifest.json").read_text()
    assert json.loads(saved)["world_size"] == 2 * devices


def test_stages_that_need_no_node_of_their_own_run_once(slurm: Cluster, tmp_path: Path) -> None:
    """The whole flow in one job: only `pretrain` has processes on both nodes.

    The variables of a job with several tasks must not make a single process wait for the others.
    """
    runtime = {"num_nodes": 2, "micro_batch_size": 2}
    (tmp_path / "experiment.yaml").write_text(
        small_flow(
            pretrain__max_steps=6, pretrain__runtime=runtime, longer__runtime={"num_nodes": 1}
        ),
        encoding="utf-8",
    )
    job = submit(slurm, tmp_path, "--ntasks-per-node=2")
    assert job.ends() == ("COMPLETED", 0), job.told()
    started = [
        json.loads(line)["event"]
        for path in tmp_path.glob("runs/*/attempts.jsonl")
        for line in path.read_text().splitlines()
    ].count("started")
    assert started == len(list(tmp_path.glob("runs/*/artifact.json"))) == 9
    sizes = {
        path.parent.name.partition("-")[0]: json.loads(path.read_text())["world_size"]
        for path in tmp_path.glob("runs/*/resolved.json")
    }
    assert sizes == {"pretrain": 2, "longer": 1, "retrain": 1}


@pytest.mark.slow
def test_two_runs_share_the_nodes_and_even_the_job(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    """Neither the ports nor the steps of one are in the way of the other."""
    folders = [prepare(spec(2)) for _ in range(2)]
    command = f"{sys.executable} -m continuum run"
    body = f"{command} {folders[0]} & {command} {folders[1]} && wait %1"
    beside, job = submit(slurm, prepare(spec(2))), submit(slurm, folders[0], body=body)
    assert job.ends() == ("COMPLETED", 0), job.told()
    assert beside.ends() == ("COMPLETED", 0), beside.told()
    assert losses(folders[0]) == losses(folders[1])


@pytest.mark.parametrize(
    "options",
    [
        ("--gpus-per-task=1", "--ntasks-per-node=2", "--mem-per-cpu=100"),
        ("--gpus=4", "--cpus-per-task=2", "--mem-per-gpu=100"),
        ("--gres=gpu:2", "--cpus-per-task=2"),
    ],
    ids=["per-task", "in-all", "per-node"],
)
def test_a_step_has_all_that_the_job_has_on_each_node(
    options: tuple[str, ...], slurm: Cluster, tmp_path: Path
) -> None:
    """However the job asked for it."""
    job = submit(slurm, tmp_path, *options, body=f"{sys.executable} -m tests.slurm.probe")
    assert job.ends() == ("COMPLETED", 0), job.told()
    seen = [json.loads(line) for line in job.told().splitlines() if line.startswith("{")]
    assert sorted(task["node"] for task in seen) == list(NODES)
    assert [task["rank"] for task in sorted(seen, key=lambda task: task["node"])] == [0, 1]
    for task in seen:
        assert task["gpus"] == ",".join(map(str, range(GPUS_PER_NODE)))
        assert task["processors"] == 2


def test_more_nodes_than_the_job_has_are_refused(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    job = submit(slurm, prepare(spec(4)))
    assert job.ends() == ("FAILED", 5)  # the stages before it were started
    assert f"runtime.num_nodes is 4, but Slurm job {job.number} has 2 nodes" in job.told()


def test_a_meeting_place_that_nobody_finds_is_refused(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    """As Slurm's own names of nodes, where they do not resolve."""
    job = submit(slurm, prepare(spec(2)), "--export=ALL,MASTER_ADDR=no-such-host.invalid")
    assert job.ends() == ("FAILED", 4)
    assert "cannot resolve no-such-host.invalid" in job.told()


@pytest.mark.slow
def test_a_job_without_the_environment_of_its_submitter_works(
    slurm: Cluster, prepare: Callable[[str], Path]
) -> None:
    """`sbatch --export=NONE`: the ranks get what the batch script has."""
    folder = prepare(spec(2, steps=2))
    names = ("PATH", "PYTHONPATH")
    known = {name: slurm.environment[name] for name in names if name in slurm.environment}
    exports = "\n".join(f"export {name}={value}" for name, value in known.items())
    body = f"{exports}\nexec {sys.executable} -m continuum run {folder}"
    job = submit(slurm, folder, "--export=NONE", body=body)
    assert job.ends() == ("COMPLETED", 0), job.told()


def test_ranks_of_a_job_import_what_is_installed(
    slurm: Cluster, prepare: Callable[[str], Path], tmp_path: Path
) -> None:
    """Not what lies where the job was submitted, or beside the spec."""
    folder = plant(prepare(spec(2, steps=2)), "litgpt")
    here = plant_checkout(plant(tmp_path / "here"))
    body = f"cd {here} && exec {sys.executable} -m continuum run {folder}"
    job = submit(slurm, folder, body=body)
    assert job.ends() == ("COMPLETED", 0), job.told()
    assert executed(folder, here) == []
