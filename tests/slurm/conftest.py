"""A Slurm for the session, and an experiment whose data is made and whose training is not."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import only
from tests.experiments import FIRST_STAGES, small_flow
from tests.slurm.cluster import Cluster, missing_packages
from tests.slurm.jobs import submit

UNBROKEN_STEPS = 400
"""Long enough to be interrupted after the first checkpoint, at step 20."""


def spec(num_nodes: int = 1, devices: int = 1, strategy: str = "auto", *, steps: int = 12) -> str:
    """The small pretraining on some nodes, with some processes on each."""
    runtime: dict[str, Any] = {
        "num_nodes": num_nodes,
        "devices": devices,
        "strategy": strategy,
        "micro_batch_size": 2,
        "checkpoint": {"every": 20, "keep_last": 99},
    }
    return small_flow(
        only=FIRST_STAGES,
        pretrain__max_steps=steps,
        pretrain__evaluate={"every": 200, "sequences": 4},
        pretrain__runtime=runtime,
    )


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """The cluster, stopped and swept at the end."""
    missing = missing_packages()
    if missing:
        pytest.skip(f"needs Slurm: apt-get install --no-install-recommends {' '.join(missing)}")
    # Short, since the path of a socket in it may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def alone(run_once: Callable[[str], Path]) -> Path:
    """The pretraining by one process, outside of any job."""
    return run_once(spec())


@pytest.fixture(scope="session")
def prepare(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A new folder for an experiment, with the data made and the pretraining still to do."""

    def copy(text: str) -> Path:
        folder = tmp_path_factory.mktemp("job") / "toy"
        shutil.copytree(alone, folder)
        shutil.rmtree(only(folder, "runs/pretrain-*"))
        (folder / "experiment.yaml").write_text(text, encoding="utf-8")
        return folder

    return copy


@pytest.fixture(scope="session")
def unbroken(slurm: Cluster, prepare: Callable[[str], Path]) -> bytes:
    """The last checkpoint of a long pretraining on two nodes that nothing interrupted."""
    folder = prepare(spec(2, 1, "ddp", steps=UNBROKEN_STEPS))
    assert submit(slurm, folder).ends() == ("COMPLETED", 0)
    return only(folder, "runs/pretrain-*/output/lit_model.pth").read_bytes()
