from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.folder import StageRun
from continuum.training.checkpoint import Companions, write_checkpoint
from continuum.training.data import Blocks
from tests.training.loops import Recorder
from tests.training.samples import (
    Trials,
    Write,
    blocks_of,
    companions,
    cpu_fabric,
    make_state,
    take_steps,
    token_stream,
    tokenizer_folder,
)

DATA_STAGES = ("prose", "tokenizer", "tokens", "code", "code_tokens")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment folder whose data stages are done."""
    trials = Trials(tmp_path_factory.mktemp("data"))
    trials.run(only=DATA_STAGES)
    return trials.folder


@pytest.fixture
def trials(data: Path, tmp_path: Path) -> Trials:
    """Experiments in a folder of their own, their data already made."""
    return Trials(data).copied_to(tmp_path / "toy")


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def run(tmp_path: Path) -> StageRun:
    """A run folder for checkpoints."""
    found = StageRun(tmp_path / "runs" / "pretrain-000000000000")
    found.path.mkdir(parents=True)
    return found


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """So small a model gains nothing from a second, and waits for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Blocks:
    return blocks_of(tmp_path_factory.mktemp("tokens"), token_stream(2000))


@pytest.fixture
def recorder(run: StageRun) -> Recorder:
    return Recorder(run)


@pytest.fixture(scope="session")
def snapshot() -> dict[str, Any]:
    fabric = cpu_fabric()
    state = make_state(fabric)
    take_steps(fabric, state, 2)
    state.metrics, state.tokens_before = {"loss": 1.5}, 1000
    return state.snapshot()


@pytest.fixture
def beside(tokenizer_dir: Path) -> Companions:
    return companions(tokenizer_dir)


@pytest.fixture
def write(run: StageRun, snapshot: dict[str, Any], beside: Companions) -> Write:
    """Write the snapshot as the checkpoint of some step."""

    def write(step: int, into: StageRun = run) -> TrainingCheckpoint:
        return write_checkpoint(into, {**snapshot, "step": step}, beside)

    return write


@pytest.fixture
def _nothing_compiled() -> Iterator[None]:
    """No graphs of other tests, and none left behind."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """This process alone, as a group over which models are sharded."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())  # type: ignore[attr-defined]
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()
