"""How much memory a process of a training stage takes, estimated before it starts.

State: weights, gradients and the optimizer's moments; `ddp` holds all of it in every process (the
buckets it reduces are the gradients), `fsdp` a share of it and, while they are used, parameters of
the outer layers and of two blocks, the second being gathered meanwhile, and the outer layers'
gradients. Where an `fsdp` run accumulates unsharded, each process adds up the gradients of the
whole model in fp32.

Activations: see `continuum.preflight.activations`. Autocast's 16-bit copies of the weights are
counted with them, since they live as long.

A step of a single micro-batch has no gradients yet while its activations are there, and hardly any
activations when all gradients are: only the larger counts. With more micro-batches both do.

What the process itself takes, and how much more than it uses the allocator holds, are measured
(see the tests): the estimate is meant to be right within a third.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

from continuum.experiment.architecture import Architecture
from continuum.experiment.precision import is_half
from continuum.experiment.recipe import LARGEST_UNASKED, Recipe
from continuum.formatting import format_bytes
from continuum.preflight.activations import activation_bytes
from continuum.preflight.host import HostMemory
from continuum.preflight.model_size import StateSize, outer_and_block, state_size
from continuum.preflight.placement import Placement, world_size
from continuum.problems import Problem

PROCESS_BYTES = 500_000_000
"""Resident in a process that has imported torch, Fabric and LitGPT."""
CUDA_CONTEXT_BYTES = 500_000_000
"""What CUDA and its libraries take of a device."""
HELD_BY_MALLOC = 1.5
"""Resident memory of a CPU process to what its tensors take: glibc keeps freed blocks below
32 MB, which most are. CUDA's caching allocator fits better."""
SURE_SHARE = 0.7
"""Of the estimated activations, when a run is to be refused for them."""
WAYS_OUT = (
    "lower runtime.micro_batch_size, say runtime.activation_checkpointing full, share the model "
    "among more devices with strategy fsdp, or use precision bf16-true"
)
FITTING_SHARE = 0.9
"""Of a device's memory, for activations to be kept there by `activation_checkpointing: auto`: the
rest is for what the allocator cannot use, and for the estimate's error."""
MODES = ("off", "selective", "full")
"""Of activation checkpointing, from the one that computes least again."""
BYTES_OF_FP32 = 4
GATHERED_BLOCKS = 2
"""Blocks whose parameters FSDP2 holds whole: one in use, the next on its way."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process: on its CUDA device, or of host memory where it trains on the CPU."""

    base_bytes: int
    state_bytes: int
    activation_bytes: int
    """What autograd and the head keep, autocast's copies of weights included."""

    snapshot_bytes: int = 0
    """A checkpoint on its way to the disk; on the CPU it lies beside the state."""

    num_processes: int = 1
    """That share the memory in question: all of a node's, where they train on the CPU."""
    num_snapshots: int = 1
    late_bytes: int = 0
    """Of the state, gradients that come only as the activations go: without accumulation."""

    @property
    def total_bytes(self) -> int:
        """Of one process at its peak."""
        return self.base_bytes + self._used(self.activation_bytes) + self.snapshot_bytes

    @property
    def shared_bytes(self) -> int:
        """Of all processes together."""
        others = self.num_processes * (self.total_bytes - self.snapshot_bytes)
        return others + self.num_snapshots * self.snapshot_bytes

    @property
    def sure_bytes(self) -> int:
        """What they take at the least, so that no run is refused that would have fitted."""
        return self.num_processes * self._used(int(SURE_SHARE * self.activation_bytes))

    def _used(self, activation_bytes: int) -> int:
        return self.state_bytes + activation_bytes - min(self.late_bytes, activation_bytes)

    def fits(self, total_bytes: int) -> bool:
        """True if a device with so much memory should hold it, and need nothing else be done."""
        return self.shared_bytes <= FITTING_SHARE * total_bytes

    def problem(self, total_bytes: int, place: str) -> str | None:
        """Why it cannot be in `place` with so much memory; None when it may be."""
        return (
            f"{self._need(place, total_bytes)}: {WAYS_OUT}"
            if self.sure_bytes > total_bytes
            else None
        )

    def doubt(self, available_bytes: int, place: str) -> str | None:
        """Why it may not fit into what is available in `place`; None when it should."""
        if self.shared_bytes <= available_bytes:
            return None
        return f"{self._need(place, available_bytes)}; should it fail, {WAYS_OUT}"

    def _need(self, place: str, has_bytes: int) -> str:
        each = f" in each of {self.num_processes} processes" if self.num_processes > 1 else ""
        return (
            f"training takes about {format_bytes(self.total_bytes)} of memory{each} "
            f"({format_bytes(self.state_bytes)} weights, gradients and optimizer, "
            f"{format_bytes(self.activation_bytes)} activations), and {place} has "
            f"{format_bytes(has_bytes)}"
        )


def estimate_memory(
    recipe: Recipe, architecture: Architecture | None, placement: Placement
) -> MemoryEstimate | None:
    """Memory that one process takes; None for the shapes whose parameters are not counted."""
    size = state_size(recipe, architecture, placement.precision)
    if architecture is None or size is None:
        return None
    on_cpu = placement.on_cpu
    activations = activation_bytes(recipe, architecture, size, placement)
    is_sharded = recipe.runtime.checkpoint.format == "sharded"
    snapshot = size.checkpoint_bytes // (world_size(recipe) if is_sharded else 1)
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
    """Decide `micro_batch_size` and `activation_checkpointing`, where they are `auto`.

    The largest micro-batch is taken with which training fits into so much memory and keeps all
    activations; only if none does, more is computed again. If nothing fits, it is what takes least.

    Args:
        total_bytes: Memory of a device, or of the host where the CPU trains; None if not known.
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


class Need(Protocol):
    """Memory that something takes: of training, or of saving."""

    def problem(self, total_bytes: int, place: str) -> str | None:
        """Why it cannot be in `place` with so much memory; None when it may be."""

    def doubt(self, available_bytes: int, place: str) -> str | None:
        """Why it may not fit into what is available in `place`; None when it should."""


def memory_problems(need: Need, memory: HostMemory, place: str, *, is_sure: bool) -> list[Problem]:
    """A need held to the memory of this machine, or of a GPU here.

    Args:
        is_sure: Whether this machine is the one that trains; else nothing is refused.
    """
    told = need.problem(memory.total_bytes, place)
    if told is not None and is_sure:
        return [Problem(("runtime",), told, needs="machine")]
    told = need.doubt(memory.available_bytes, place)
    return [Problem(("runtime",), told, severity="warning", needs="machine")] if told else []


def _holds_gradients(recipe: Recipe, placement: Placement) -> bool:
    """True if gradients are there during a forward pass: of earlier micro-batches, or buckets."""
    at_once = world_size(recipe) * recipe.micro_batch_size
    return placement.strategy == "ddp" or recipe.global_batch_size > at_once


def _late_bytes(
    recipe: Recipe, architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    """Gradients of a process that are not there while the activations are.

    FSDP2 keeps those of embedding and head whole until the backward pass ends.
    """
    shares = world_size(recipe) if placement.strategy == "fsdp" else 1
    own = 0 if _holds_gradients(recipe, placement) else size.gradients_bytes // shares
    return own + _outer_gradient_bytes(architecture, size, placement)


def _state_bytes(
    recipe: Recipe, architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    whole = size.weights_bytes + size.gradients_bytes + size.moments_bytes
    if placement.strategy != "fsdp":
        return whole
    outer, block = outer_and_block(architecture, size.num_parameters)
    width = 2 if is_half(placement.precision) else BYTES_OF_FP32
    gathered = (outer + GATHERED_BLOCKS * block) * width
    share = whole // world_size(recipe) + gathered
    share += _outer_gradient_bytes(architecture, size, placement)
    if placement.accumulates_unsharded and _holds_gradients(recipe, placement):
        return share + BYTES_OF_FP32 * size.num_parameters
    return share


def _outer_gradient_bytes(architecture: Architecture, size: StateSize, placement: Placement) -> int:
    """Whole gradients of embedding and head under FSDP2, and the fp32 they are reduced in."""
    if placement.strategy != "fsdp":
        return 0
    outer, _ = outer_and_block(architecture, size.num_parameters)
    return outer * (2 if is_half(placement.precision) else BYTES_OF_FP32) + outer * BYTES_OF_FP32
