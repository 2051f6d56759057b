"""Memory where a model is trained: whether it will fit, how it is kept, and what it took."""

import ctypes
import resource
from collections.abc import Iterator
from dataclasses import replace

import torch
from lightning import Fabric

from continuum.architecture import Architecture
from continuum.errors import PreflightError
from continuum.preflight.host import host_memory
from continuum.preflight.memory import choose_checkpointing, estimate_memory
from continuum.preflight.placement import Placement
from continuum.preflight.saving import saving_need
from continuum.recipe import Recipe
from continuum.training.fabric import Resolved

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers for them, in malloc.h."""
MOST_MMAP_THRESHOLD = 32 << 20
"""The most that glibc takes: smaller blocks come from its heap."""
TRIM_THRESHOLD = (1 << 31) - 1
"""Free bytes at the end of the heap beyond which they are given back; an int."""


def with_checkpointing(resolved: Resolved, recipe: Recipe, shape: Architecture) -> Resolved:
    """What was resolved, with activation checkpointing decided for the memory of this device.

    It follows from the recipe and the device alone, so every process and every attempt of a run
    decides the same.
    """
    placement = _placement(recipe, resolved)
    chosen = choose_checkpointing(recipe, shape, placement, _total_bytes(placement))
    return replace(resolved, activation_checkpointing=chosen.activation_checkpointing)


def _total_bytes(placement: Placement) -> int | None:
    """Memory of a device, or of the host where the CPU trains; None off Linux."""
    if not placement.on_cpu:
        return torch.cuda.get_device_properties(0).total_memory
    here = host_memory()
    return here.total_bytes if here else None


def _placement(recipe: Recipe, resolved: Resolved) -> Placement:
    return Placement(
        on_cpu=resolved.accelerator != "cuda",
        strategy=resolved.strategy,
        precision=resolved.precision,
        activation_checkpointing=resolved.activation_checkpointing,
        accumulates_unsharded=bool(getattr(recipe.runtime, "accumulate_unsharded", False)),
    )


def memory_warnings(
    fabric: Fabric, recipe: Recipe, shape: Architecture, resolved: Resolved
) -> Iterator[str]:
    """Doubts whether training fits into the device's memory, or the host's on a CPU, and whether
    a save fits into the host's.

    Raises:
        PreflightError: it cannot.
    """
    on_cpu = fabric.device.type != "cuda"
    estimate = estimate_memory(recipe, shape, _placement(recipe, resolved))
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
        if problem := need.problem(here, "this machine"):
            raise PreflightError(problem)
        if not on_cpu and (doubt := need.doubt(here, "this machine")):
            yield doubt
    if doubt := estimate.doubt(available, place):
        yield doubt


def _saves_here(recipe: Recipe, fabric: Fabric) -> bool:
    """Whether this process's node holds a copy of a checkpoint: rank 0's, or each its parts."""
    is_first_node = fabric.global_rank < recipe.runtime.devices
    return is_first_node or recipe.runtime.checkpoint.format == "sharded"


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
