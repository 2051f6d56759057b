"""Memory where a model is trained: whether it will fit, how it is kept, and what it took."""

import ctypes
import resource
from collections.abc import Iterator

import torch
from lightning import Fabric

from continuum.errors import PreflightError
from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import Recipe
from continuum.preflight.host import host_memory
from continuum.preflight.memory import estimate_memory
from continuum.preflight.model_size import state_size
from continuum.preflight.saving import saving_need
from continuum.training.model import next_token_loss
from continuum.training.resolved import Resolved, placement_of
from continuum.training.state import TrainingState, unwrap_optimizer

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers for them, in malloc.h."""
MOST_MMAP_THRESHOLD = 32 << 20
"""The most that glibc takes: smaller blocks come from its heap."""
TRIM_THRESHOLD = (1 << 31) - 1
"""Free bytes at the end of the heap beyond which they are given back; an int."""


def memory_warnings(
    fabric: Fabric, recipe: Recipe, shape: Architecture, resolved: Resolved
) -> Iterator[str]:
    """Doubts whether training fits into the device's memory, or the host's on a CPU, and whether
    a save fits into the host's.

    Raises:
        PreflightError: it cannot.
    """
    on_cpu = fabric.device.type != "cuda"
    recipe = recipe.with_micro_batch_size(resolved.micro_batch_size)
    estimate = estimate_memory(recipe, shape, placement_of(resolved))
    need = saving_need(recipe, shape, on_cpu=on_cpu, strategy=resolved.strategy)
    if estimate is None or need is None:
        return
    here = host_memory()
    if not on_cpu:
        place = f"{fabric.device} ({resolved.device})"
        available, total = torch.cuda.mem_get_info(fabric.device)
    elif here is not None:
        place, total, available = "this machine", here.total_bytes, here.available_bytes
    else:
        return
    if problem := estimate.problem(total, place):
        raise PreflightError(problem)
    if here is not None and _saves_here(recipe, fabric):
        if problem := need.problem(here.total_bytes, "this machine"):
            raise PreflightError(problem)
        if not on_cpu and (doubt := need.doubt(here.available_bytes, "this machine")):
            yield doubt
    if doubt := estimate.doubt(available, place):
        yield doubt


def _saves_here(recipe: Recipe, fabric: Fabric) -> bool:
    """Whether this process's node holds a copy of a checkpoint: rank 0's, or each its parts."""
    is_first_node = fabric.global_rank < recipe.runtime.devices
    return is_first_node or recipe.runtime.checkpoint.format == "sharded"


def largest_micro_batch(
    fabric: Fabric, state: TrainingState, recipe: Recipe, shape: Architecture, resolved: Resolved
) -> int:
    """The micro-batch of a run: what was resolved, or where it is `auto` on CUDA, the largest that
    does not run out of memory in a trial, on any device.

    Nothing is changed by the trial. There is none under `fsdp`, whose processes would wait for one
    that has run out of memory.
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
    """The first of these micro-batches that does not run out of memory; the last if all do.

    Args:
        length: Tokens of a sequence.
        moments_bytes: What the optimizer is still to allocate.
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
        for _ in range(2):  # the second time beside gradients, as they accumulate
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
    """Have glibc keep what a step frees for the next step, which needs just as much.

    Left to itself it gives blocks of activations back to the kernel, which has to clear the pages
    before it hands them out again: 80,000 page faults and 4 % of the time of a step of pythia-14m
    on a CPU, where this leaves the peak as it is. Other C libraries are left alone.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, MOST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def peak_bytes(fabric: Fabric) -> int:
    """The most memory this process has held: on the GPU, or resident on a CPU."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated(fabric.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
