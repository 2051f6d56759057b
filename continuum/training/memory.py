"""Memory of a training process: whether it suffices, how it is reused, and its peak."""

import ctypes
import resource
from collections.abc import Iterator

import torch
from lightning import Fabric

from continuum.errors import PreflightError
from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import Recipe
from continuum.preflight.host import HostMemory, host_memory
from continuum.preflight.memory import estimate_memory, memory_problems, saving_need
from continuum.preflight.model_size import state_size
from continuum.training.model import next_token_loss
from continuum.training.resolved import Resolved
from continuum.training.state import TrainingState, unwrap_optimizer

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""
MOST_MMAP_THRESHOLD = 32 << 20
"""glibc's maximum: smaller blocks come from its heap."""
TRIM_THRESHOLD = (1 << 31) - 1
"""Free bytes at the end of the heap that are kept; an int."""


def memory_warnings(
    fabric: Fabric, recipe: Recipe, shape: Architecture, resolved: Resolved
) -> Iterator[str]:
    """Why training may not fit into the memory of its device, or saving into the host's.

    Raises:
        PreflightError: it cannot fit.
    """
    placement, here = resolved.placement, host_memory()
    recipe = recipe.with_micro_batch_size(resolved.micro_batch_size)
    estimate = estimate_memory(recipe, shape, placement)
    saving = saving_need(recipe, shape, placement)
    if estimate is None or saving is None:
        return
    where, place = here, "this machine"
    if not placement.on_cpu:
        available, total = torch.cuda.mem_get_info(fabric.device)
        where, place = HostMemory(total, available), f"{fabric.device} ({resolved.device})"
    # Rank 0's node has a copy of a checkpoint; with shards each node has its parts.
    is_first_node = fabric.global_rank < recipe.runtime.devices
    saves_here = is_first_node or recipe.runtime.checkpoint.format == "sharded"
    for problem in memory_problems(
        [(estimate, where, place), (saving, here if saves_here else None, "this machine")],
        is_sure=True,
    ):
        if problem.severity == "error":
            raise PreflightError(str(problem))
        yield str(problem)


def largest_micro_batch(
    fabric: Fabric, state: TrainingState, recipe: Recipe, shape: Architecture, resolved: Resolved
) -> int:
    """The micro-batch size of a run: the resolved one, or for `auto` on CUDA, the largest that does
    not run out of memory in a trial on any device.

    The trial changes nothing. There is none with `fsdp`, whose processes would wait for one that
    has run out of memory.
    """
    sizes = [size for size in recipe.micro_batch_sizes() if size <= resolved.micro_batch_size]
    is_open = recipe.runtime.micro_batch_size == "auto" and resolved.strategy != "fsdp"
    if not is_open or fabric.device.type != "cuda":
        return resolved.micro_batch_size
    size = state_size(recipe, shape, resolved.precision)
    is_fresh = not unwrap_optimizer(state.optimizer).state
    moments_bytes = size.moments_bytes if size is not None and is_fresh else 0
    return first_that_fits(fabric, state, sizes, recipe.sequence_length, moments_bytes)


def first_that_fits(
    fabric: Fabric, state: TrainingState, sizes: list[int], length: int, moments_bytes: int = 0
) -> int:
    """The first micro-batch size that does not run out of memory; the last if all do.

    Args:
        length: Tokens of a sequence.
        moments_bytes: What the optimizer will allocate later.
    """
    for size in sizes[:-1]:
        fits = torch.tensor(_fits(fabric, state, size, length, moments_bytes), dtype=torch.int64)
        votes = fabric.all_reduce(fits.to(fabric.device), reduce_op="sum")
        assert isinstance(votes, torch.Tensor)
        if int(votes) == fabric.world_size:
            return size
    return sizes[-1]


def _fits(fabric: Fabric, state: TrainingState, size: int, length: int, moments_bytes: int) -> bool:
    fits = True
    moments = None
    try:
        moments = torch.empty(moments_bytes, dtype=torch.uint8, device=fabric.device)
        tokens = torch.zeros(size, length, dtype=torch.int64, device=fabric.device)
        for _ in range(2):  # the second time with gradients in memory
            with fabric.no_backward_sync(state.model):  # type: ignore[arg-type]
                fabric.backward(next_token_loss(state.model, tokens, tokens))
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)):
            raise
        fits = False
    state.optimizer.zero_grad()
    del moments
    if fabric.device.type == "cuda":
        torch.cuda.empty_cache()
    return fits


def keep_freed_memory() -> None:
    """Make glibc keep the memory that a step frees, since the next step needs as much.

    By default it returns blocks of activations to the kernel, which must clear the pages before
    reuse: 80,000 page faults and 4 % of the time of a step of pythia-14m on a CPU. The peak does
    not change. Does nothing with other C libraries.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, MOST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def peak_bytes(fabric: Fabric) -> int:
    """The peak memory of this process: on the GPU, or resident if it trains on the CPU."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated(fabric.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
