"""Memory that training and saving need, estimated before a stage starts.

State: weights, gradients and the optimizer's moments. `ddp` holds all of it in every process (the
buckets it reduces are the gradients). `fsdp` holds a share of it and, while they are in use, the
parameters of the outer layers and of two blocks (one is prefetched), and the outer layers'
gradients. An `fsdp` run that accumulates unsharded adds up the gradients of the full model in fp32
in each process.

Activations: see `continuum.preflight.model_size`. Autocast's 16-bit copies of the weights are
counted with them, since they live as long.

A step with a single micro-batch has no gradients while its activations exist, and hardly any
activations once all gradients exist: only the larger counts. With more micro-batches both do.

The base memory of a process, and the overhead of the allocator, are measured (see the tests): the
estimate is meant to be within a third.

Saving copies the training state to the host, so that training continues while it is written. With
`format: full` rank 0 does so for all processes; in an fsdp run it gathers the full state, which is
already that copy. With `format: sharded` each process copies its own part, and those of a node
share its memory. From a GPU the copy is page-locked: one block of exactly its size, kept from the
first save on (`continuum.training.snapshot`), which cannot be swapped out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

from continuum.errors import Problem
from continuum.experiment.architecture import Architecture
from continuum.experiment.precision import is_half
from continuum.experiment.recipe import Recipe
from continuum.experiment.runtime import LARGEST_UNASKED
from continuum.formatting import format_bytes
from continuum.preflight.host import HostMemory
from continuum.preflight.model_size import (
    BYTES_OF_FP32,
    StateSize,
    activation_bytes,
    outer_and_block,
    state_size,
)
from continuum.preflight.placement import Placement

PROCESS_BYTES = 500_000_000
"""Resident memory of a process that has imported torch, Fabric and LitGPT."""
CUDA_CONTEXT_BYTES = 500_000_000
"""Device memory that CUDA and its libraries use."""
HELD_BY_MALLOC = 1.5
"""Resident memory of a CPU process divided by that of its tensors: glibc keeps freed blocks below
32 MB, which most are. CUDA's caching allocator wastes less."""
SURE_SHARE = 0.7
"""Of the estimated activations, when deciding whether to refuse a run."""
MEMORY_REMEDY = (
    "lower runtime.micro_batch_size, set runtime.activation_checkpointing to full, shard the model "
    "over more devices with strategy fsdp, or use precision bf16-true"
)
FITTING_SHARE = 0.9
"""Of a device's memory, that `activation_checkpointing: auto` fills: the rest covers fragmentation
and the error of the estimate."""
MODES = ("off", "selective", "full")
"""Of activation checkpointing, from least to most recomputation."""
GATHERED_BLOCKS = 2
"""Blocks whose full parameters FSDP2 holds: one in use, the next being gathered."""


class MemoryNeed(Protocol):
    """Memory that training or saving needs, as far as this decides whether it fits."""

    @property
    def sure_bytes(self) -> int:
        """The minimum, so that no run is refused that would have fitted."""

    @property
    def likely_bytes(self) -> int:
        """The estimate."""

    @property
    def remedy(self) -> str:
        """How to need less."""

    def describe(self) -> str:
        """What needs how much, as the start of a message."""


def memory_problems(
    needs: Iterable[tuple[MemoryNeed, HostMemory | None, str]], *, is_sure: bool
) -> list[Problem]:
    """The first need that cannot fit, or else the first that may not fit.

    Args:
        needs: Each with the memory that is there, None if unknown, and its name.
        is_sure: Whether this machine is the one that trains; otherwise nothing is an error.
    """
    warnings = []
    for need, memory, place in needs:
        if memory is None:
            continue
        if is_sure and need.sure_bytes > memory.total_bytes:
            has = format_bytes(memory.total_bytes)
            message = f"{need.describe()}, and {place} has {has}: {need.remedy}"
            return [Problem(("runtime",), message, needs="machine")]
        if need.likely_bytes > memory.available_bytes:
            has = format_bytes(memory.available_bytes)
            message = f"{need.describe()}, and {place} has {has}; if it fails, {need.remedy}"
            warnings.append(Problem(("runtime",), message, severity="warning", needs="machine"))
    return warnings[:1]


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process: on its CUDA device, or of host memory if it trains on the CPU."""

    base_bytes: int
    state_bytes: int
    activation_bytes: int
    """What autograd and the head store, including autocast's copies of weights."""
    snapshot_bytes: int = 0
    """A checkpoint being written; on the CPU it is in memory next to the state."""
    num_processes: int = 1
    """That share the memory: all of a node's, if they train on the CPU."""
    num_snapshots: int = 1
    late_bytes: int = 0
    """Gradients that are allocated as activations are freed: without accumulation."""

    @property
    def total_bytes(self) -> int:
        """Of one process at its peak."""
        return self.base_bytes + self._used(self.activation_bytes) + self.snapshot_bytes

    @property
    def likely_bytes(self) -> int:
        """Of all processes together."""
        others = self.num_processes * (self.total_bytes - self.snapshot_bytes)
        return others + self.num_snapshots * self.snapshot_bytes

    @property
    def sure_bytes(self) -> int:
        return self.num_processes * self._used(int(SURE_SHARE * self.activation_bytes))

    @property
    def remedy(self) -> str:
        return MEMORY_REMEDY

    def fits(self, total_bytes: int) -> bool:
        """Whether a device with this much memory should hold it without further measures."""
        return self.likely_bytes <= FITTING_SHARE * total_bytes

    def describe(self) -> str:
        each = f" in each of {self.num_processes} processes" if self.num_processes > 1 else ""
        return (
            f"training takes about {format_bytes(self.total_bytes)} of memory{each} "
            f"({format_bytes(self.state_bytes)} weights, gradients and optimizer, "
            f"{format_bytes(self.activation_bytes)} activations)"
        )

    def _used(self, activation_bytes: int) -> int:
        return self.state_bytes + activation_bytes - min(self.late_bytes, activation_bytes)


def estimate_memory(
    recipe: Recipe, architecture: Architecture | None, placement: Placement
) -> MemoryEstimate | None:
    """Memory that one process needs; None if the model's parameters cannot be counted."""
    size = state_size(recipe, architecture, placement.precision)
    if architecture is None or size is None:
        return None
    on_cpu = placement.on_cpu
    activations = activation_bytes(recipe, architecture, size, placement)
    is_sharded = recipe.runtime.checkpoint.format == "sharded"
    snapshot = size.checkpoint_bytes // (recipe.runtime.world_size if is_sharded else 1)
    return MemoryEstimate(
        base_bytes=PROCESS_BYTES if on_cpu else CUDA_CONTEXT_BYTES,
        state_bytes=_state_bytes(recipe, architecture, size, placement),
        activation_bytes=int(activations * (HELD_BY_MALLOC if on_cpu else 1)),
        snapshot_bytes=snapshot if on_cpu else 0,
        num_processes=recipe.runtime.devices if on_cpu else 1,
        num_snapshots=recipe.runtime.devices if is_sharded else 1,
        late_bytes=_late_bytes(recipe, architecture, size, placement),
    )


def fit_to_memory(
    recipe: Recipe, architecture: Architecture | None, placement: Placement, total_bytes: int | None
) -> tuple[Recipe, Placement]:
    """Decide `micro_batch_size` and `activation_checkpointing` where they are `auto`.

    Take the largest micro-batch with which training fits into memory without recomputation; if
    none fits, recompute more. If nothing fits, take what needs least.

    Args:
        total_bytes: Memory of a device, or of the host if the CPU trains; None if unknown.
    """
    written = recipe.runtime.activation_checkpointing
    is_known = estimate_memory(recipe.with_micro_batch_size(1), architecture, placement) is not None
    if total_bytes is None or not is_known:
        size = recipe.micro_batch_sizes(LARGEST_UNASKED)[0]
        mode = placement.activation_checkpointing if written == "auto" else written
        return recipe.with_micro_batch_size(size), replace(placement, activation_checkpointing=mode)
    modes = MODES if written == "auto" else (written,)
    sizes = recipe.micro_batch_sizes(LARGEST_UNASKED if placement.on_cpu else None)
    for mode, size in product(modes, sizes):
        chosen = (
            recipe.with_micro_batch_size(size),
            replace(placement, activation_checkpointing=mode),
        )
        estimate = estimate_memory(chosen[0], architecture, chosen[1])
        if estimate is not None and estimate.fits(total_bytes):
            break
    return chosen


def _holds_gradients(recipe: Recipe, placement: Placement) -> bool:
    """Whether gradients exist during a forward pass: of earlier micro-batches, or as buckets."""
    at_once = recipe.runtime.world_size * recipe.micro_batch_size
    return placement.strategy == "ddp" or recipe.global_batch_size > at_once


def _late_bytes(
    recipe: Recipe, architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    """Gradients of a process that do not exist at the same time as the activations.

    FSDP2 holds those of embedding and head unsharded until the backward pass ends.
    """
    shares = recipe.runtime.world_size if placement.strategy == "fsdp" else 1
    own = 0 if _holds_gradients(recipe, placement) else size.gradients_bytes // shares
    return own + _outer_gradient_bytes(architecture, size, placement)


def _state_bytes(
    recipe: Recipe, architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    full = size.weights_bytes + size.gradients_bytes + size.moments_bytes
    if placement.strategy != "fsdp":
        return full
    outer, block = outer_and_block(architecture, size.num_parameters)
    width = 2 if is_half(placement.precision) else BYTES_OF_FP32
    gathered = (outer + GATHERED_BLOCKS * block) * width
    share = full // recipe.runtime.world_size + gathered
    share += _outer_gradient_bytes(architecture, size, placement)
    if placement.accumulates_unsharded and _holds_gradients(recipe, placement):
        return share + BYTES_OF_FP32 * size.num_parameters
    return share


def _outer_gradient_bytes(architecture: Architecture, size: StateSize, placement: Placement) -> int:
    """Full gradients of embedding and head under FSDP2, and their fp32 copies for reduction."""
    if placement.strategy != "fsdp":
        return 0
    outer, _ = outer_and_block(architecture, size.num_parameters)
    return outer * (2 if is_half(placement.precision) else BYTES_OF_FP32) + outer * BYTES_OF_FP32


@dataclass(frozen=True)
class SavingNeed:
    """Bytes of host memory on the node that needs most, while a checkpoint is copied."""

    copied_bytes: int
    """The copies that are written, of all processes of the node."""
    is_pinned: bool
    """Whether the copies are page-locked, and kept."""
    gathered_bytes: int
    """The full state, gathered on rank 0."""
    resident_bytes: int
    """Weights and moments, if the CPU trains."""
    processes_bytes: int
    """Everything else in the processes."""
    remedy: str

    @property
    def sure_bytes(self) -> int:
        return self.copied_bytes + self.gathered_bytes + self.resident_bytes

    @property
    def likely_bytes(self) -> int:
        return self.sure_bytes + self.processes_bytes

    def describe(self) -> str:
        copies = "page-locked for copies" if self.is_pinned else "copied to be written"
        parts = {
            "gathered on rank 0": self.gathered_bytes,
            copies: self.copied_bytes,
            "weights and optimizer": self.resident_bytes,
        }
        listed = ", ".join(f"{format_bytes(size)} {what}" for what, size in parts.items() if size)
        return (
            f"a checkpoint takes about {format_bytes(self.sure_bytes)} of a node's host memory "
            f"({listed})"
        )


def saving_need(
    recipe: Recipe,
    architecture: Architecture | None,
    placement: Placement,
) -> SavingNeed | None:
    """Memory that saving needs; None if the model's parameters cannot be counted."""
    size = state_size(recipe, architecture)
    if size is None:
        return None
    runtime, full = recipe.runtime, size.checkpoint_bytes
    is_sharded = runtime.checkpoint.format == "sharded"
    part = full // recipe.runtime.world_size
    is_gathered = placement.strategy == "fsdp" and not is_sharded
    resident = part if placement.strategy == "fsdp" else full
    copied = runtime.devices * part if is_sharded else full
    return SavingNeed(
        copied_bytes=0 if is_gathered else copied,
        is_pinned=not placement.on_cpu,
        gathered_bytes=full if is_gathered else 0,
        resident_bytes=runtime.devices * resident if placement.on_cpu else 0,
        processes_bytes=runtime.devices * PROCESS_BYTES,
        remedy=(
            "shard the model over more nodes, or use precision bf16-true"
            if is_sharded
            else "let each process of an fsdp run save its part with runtime.checkpoint.format "
            "sharded, or use precision bf16-true"
        ),
    )
