"""The table of `continuum memory`, against the live bytes of the very models on fake tensors.

Fake tensors have a size and no values, so a model of 70 billion parameters is trained for a step
on any machine, operation by operation, while what they would take is counted. Sharded by FSDP2
over a group that exists in name only, torch's own tracker counts.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from continuum.experiment.architecture import architecture
from continuum.preflight.memory import CUDA_CONTEXT_BYTES, MODES
from continuum.preflight.memory_table import PRECISIONS, Workload, memory_table
from continuum.training.fabric import make_fabric
from continuum.training.litgpt import GPT, build_model
from continuum.training.model import checkpoint_activations, make_state, next_token_loss
from continuum.training.resolved import resolve
from tests.training.live_bytes import LiveBytes
from tests.training.samples import cpu_fabric

DEVICES = 8
SLOW = pytest.mark.slow
SMALL, LARGE = ("pythia-160m", "pythia-410m", "pythia-1b"), ("Llama-2-7b-hf", "Llama-2-70b-hf")


def estimated(model: str, strategy: str, precision: str, mode: str, work: Workload) -> int:
    """What the table says, without what CUDA takes for itself."""
    ways = {"strategies": [strategy], "precisions": [precision], "modes": [mode]}
    (row,) = memory_table(architecture(model), work, **ways)
    return row.estimate.total_bytes - CUDA_CONTEXT_BYTES


class Counted:
    """A model on fake tensors, and a step of it."""

    def __init__(self, model: str, precision: str, mode: str, work: Workload) -> None:
        self.fabric = cpu_fabric(precision=precision)
        self.model: GPT = build_model(self.fabric, architecture(model).fields, work.sequence_length)
        checkpoint_activations(self.model, mode)
        self.inputs = torch.zeros(work.micro_batch_size, work.sequence_length, dtype=torch.long)
        self.num_micro_batches = 2 if work.accumulates else 1

    def optimizer(self) -> torch.optim.Optimizer:
        """In the middle of a run, and without temporary copies of all tensors, as the fused one."""
        optimizer = torch.optim.AdamW(self.model.parameters(), foreach=False)
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        return optimizer

    def step(
        self, optimizer: torch.optim.Optimizer, tell: Callable[[], object] = lambda: None
    ) -> None:
        """A step; `tell` is called after each micro-batch."""
        for _ in range(self.num_micro_batches):
            with self.fabric.autocast():
                loss = next_token_loss(self.model, self.inputs, self.inputs)
            torch.autograd.backward(loss)
            del loss
            tell()
        optimizer.step()
        optimizer.zero_grad()


def live_bytes(model: str, precision: str, mode: str, work: Workload) -> int:
    """The peak of one process that holds the whole model."""
    with FakeTensorMode(), LiveBytes() as live:
        counted = Counted(model, precision, mode, work)
        counted.step(counted.optimizer())
    peak: int = live.peak
    return peak


def sharded_live_bytes(model: str, precision: str, mode: str, work: Workload) -> int:
    """The peak of one process of an fsdp run."""
    mesh = init_device_mesh("cpu", (DEVICES,))
    is_half = precision != "32-true"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if is_half else None,
        reduce_dtype=torch.float32 if is_half else None,
        cast_forward_inputs=False,
    )
    with FakeTensorMode():
        counted = Counted(model, precision, mode, work)
        for block in counted.model.transformer.h:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(counted.model, mesh=mesh, mp_policy=policy)
        optimizer = counted.optimizer()
        tracker = FSDPMemTracker(counted.model, optimizer)
        with tracker:
            counted.step(optimizer, tracker.reset_mod_stats)
    peak = tracker.get_tracker_snapshot("peak")
    return int(peak[torch.device("cpu")]["Total"])


@pytest.fixture
def group() -> Iterator[None]:
    """Eight processes, of which there is only this one."""
    with no_warnings():
        dist.init_process_group("fake", rank=0, world_size=DEVICES, store=FakeStore())
    yield
    dist.destroy_process_group()


@contextmanager
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def work(model: str, **fields: Any) -> Workload:
    size = 2 if model in LARGE else 8
    return Workload(DEVICES, micro_batch_size=size, sequence_length=2048, **fields)


def cases() -> Iterator[Any]:
    """All ways to train the smallest model, and the default precision of the others."""
    for model in (*SMALL, *LARGE):
        for precision in PRECISIONS if model == SMALL[0] else ("bf16-mixed",):
            for mode in MODES:
                is_quick = model == SMALL[0] and (precision, mode) == ("bf16-mixed", "off")
                yield pytest.param(model, precision, mode, marks=() if is_quick else (SLOW,))


@pytest.mark.parametrize(("model", "precision", "mode"), list(cases()))
def test_one_gpu_takes_what_the_table_says(model: str, precision: str, mode: str) -> None:
    counted = live_bytes(model, precision, mode, work(model))
    check(model, "single", precision, mode, counted)


@pytest.mark.slow
@pytest.mark.usefixtures("group")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "precision", "mode"), list(cases()))
def test_each_gpu_of_fsdp_takes_what_the_table_says(model: str, precision: str, mode: str) -> None:
    counted = sharded_live_bytes(model, precision, mode, work(model))
    check(model, "fsdp", precision, mode, counted)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["pythia-160m", "pythia-1b"])
def test_a_real_gpu_takes_what_the_table_says(model: str, mode: str) -> None:
    """Three steps as they are trained: compiled, fused, with the kernels of the device."""
    recipe = work(model).recipe("single")
    recipe = recipe.model_copy(
        update={
            "precision": "bf16-mixed",
            "runtime": recipe.runtime.model_copy(
                update={"accelerator": "cuda", "activation_checkpointing": mode}
            ),
        }
    )
    shape = architecture(model)
    resolved = resolve(recipe, {}, shape)
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, shape.fields, resolved, seed=1)
    size, length = recipe.micro_batch_size, recipe.sequence_length
    inputs = torch.zeros(size, length, dtype=torch.long, device=fabric.device)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        for _ in range(2):
            fabric.backward(next_token_loss(state.model, inputs, inputs))
        state.optimizer.step()
        state.optimizer.zero_grad()
    check(model, "single", "bf16-mixed", mode, torch.cuda.max_memory_allocated())


def check(model: str, strategy: str, precision: str, mode: str, counted: int) -> None:
    said = estimated(model, strategy, precision, mode, work(model))
    print(
        f"{model} {strategy} {precision} {mode}: {counted / 1e9:,.2f} GB counted, "
        f"{said / counted:.2f} of it estimated"
    )
    assert 2 / 3 < said / counted < 4 / 3
