"""Memory where a model is trained: whether it will fit, before it is built, and what it took."""

import resource
from collections.abc import Iterator
from typing import Any

import torch
from lightning import Fabric

from continuum.architecture import Architecture
from continuum.errors import PreflightError
from continuum.preflight.host import host_memory
from continuum.preflight.memory import estimate_memory
from continuum.recipe import Recipe
from continuum.training.fabric import Resolved


def memory_warnings(
    fabric: Fabric, recipe: Recipe, fields: dict[str, Any], resolved: Resolved
) -> Iterator[str]:
    """Doubts whether training fits into the device's memory, or the host's on a CPU.

    Raises:
        PreflightError: it cannot.
    """
    on_cpu = fabric.device.type != "cuda"
    estimate = estimate_memory(
        recipe, Architecture(fields), on_cpu=on_cpu, strategy=resolved.strategy
    )
    if estimate is None:
        return
    if on_cpu:
        here = host_memory()
        if here is None:
            return
        place, total, available = "this machine", here.total_bytes, here.available_bytes
    else:
        place = f"{fabric.device} ({resolved.device})"
        available, total = torch.cuda.mem_get_info(fabric.device)
    if problem := estimate.problem(total, place):
        raise PreflightError(problem)
    if doubt := estimate.doubt(available, place):
        yield doubt


def peak_bytes(fabric: Fabric) -> int:
    """The most memory this process has held: on the GPU, or resident on a CPU."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated(fabric.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
