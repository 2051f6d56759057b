"""Where and how a stage trains, with every `auto` decided as the plan foresees it."""

from dataclasses import dataclass
from typing import Literal

from continuum.experiment.precision import BF16, automatic_precision
from continuum.experiment.recipe import Recipe
from continuum.preflight.compatibility import scaler_problems
from continuum.preflight.host import Host

BYTES_PER_PARAMETER_IN_TRAINING = 16
"""fp32 weights, gradients and Adam's two moments."""
DDP_SHARE_OF_MEMORY = 0.6
"""`auto` shards the model when that state alone would take more of a device than this."""


@dataclass(frozen=True)
class Placement:
    """What decides how much memory a process of a training stage takes, besides its recipe."""

    on_cpu: bool
    strategy: str
    """`single`, `ddp` or `fsdp`."""
    precision: str
    activation_checkpointing: str = "off"
    """`off`, `selective` or `full`."""
    accumulates_unsharded: bool = False
    """Whether an fsdp run adds up whole gradients in each process, and shards them once a step."""


def foreseen_placement(recipe: Recipe, host: Host, num_parameters: int | None = None) -> Placement:
    """The placement that this machine's training would have, activation checkpointing left off.

    A stage that asks for CUDA where there is none is planned for another machine: its device is
    taken for one with bf16.

    Args:
        num_parameters: Of the model, by which `strategy: auto` decides on a GPU that is known.
    """
    accelerator = recipe.runtime.accelerator
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not host.has_cuda_device)
    strategy = strategy_of(recipe)
    if recipe.runtime.strategy == "auto" and strategy == "ddp" and not on_cpu and host.device:
        strategy = automatic_strategy(num_parameters, host.device.memory_bytes)
    precision = recipe.precision
    if precision == "auto":
        capability = host.device.capability if host.device else BF16
        can_scale = not list(scaler_problems(recipe, strategy))
        precision = automatic_precision(None if on_cpu else capability, can_scale=can_scale)
    return Placement(
        on_cpu=on_cpu,
        strategy=strategy,
        precision=precision,
        accumulates_unsharded=recipe.runtime.accumulate_unsharded,
    )


def automatic_strategy(num_parameters: int | None, memory_bytes: int) -> Literal["ddp", "fsdp"]:
    """The strategy of several CUDA devices with so much memory: `fsdp` for what is large in it."""
    needed = (num_parameters or 0) * BYTES_PER_PARAMETER_IN_TRAINING
    return "fsdp" if needed > DDP_SHARE_OF_MEMORY * memory_bytes else "ddp"


def strategy_of(recipe: Recipe) -> str:
    """`single`, `ddp` or `fsdp`; of `auto` the one that needs no more than the other to save."""
    written = recipe.runtime.strategy
    return "single" if world_size(recipe) == 1 else "ddp" if written == "auto" else written


def world_size(recipe: Recipe) -> int:
    """Processes of all nodes."""
    return recipe.runtime.devices * recipe.runtime.num_nodes
