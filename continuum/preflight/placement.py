"""Where and how a stage trains, with every `auto` decided as the plan foresees it."""

from dataclasses import dataclass

from continuum.precision import CPU_PRECISION, cuda_precision
from continuum.preflight.host import Host
from continuum.recipe import Recipe


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


def foreseen_placement(recipe: Recipe, host: Host) -> Placement:
    """The placement that this machine's training would have, activation checkpointing left off.

    A stage that asks for CUDA where there is none is planned for another machine: its device is
    taken for one with bf16.
    """
    accelerator = recipe.runtime.accelerator
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not host.has_cuda_device)
    strategy = strategy_of(recipe)
    precision: str = recipe.precision
    if precision == "auto" and on_cpu:
        precision = CPU_PRECISION
    elif precision == "auto":
        capability = host.device.capability if host.device else None
        precision = cuda_precision(capability, can_scale=can_scale_loss(recipe, strategy))
    return Placement(
        on_cpu=on_cpu,
        strategy=strategy,
        precision=precision,
        accumulates_unsharded=bool(getattr(recipe.runtime, "accumulate_unsharded", False)),
    )


def can_scale_loss(recipe: Recipe, strategy: str) -> bool:
    """False where float16 cannot be used: FSDP2 and a fused optimizer know no loss scale."""
    return strategy != "fsdp" and not recipe.optimizer.arguments.get("fused")


def strategy_of(recipe: Recipe) -> str:
    """`single`, `ddp` or `fsdp`; of `auto` the one that needs no more than the other to save."""
    written = recipe.runtime.strategy
    return "single" if world_size(recipe) == 1 else "ddp" if written == "auto" else written


def world_size(recipe: Recipe) -> int:
    """Processes of all nodes."""
    return recipe.runtime.devices * recipe.runtime.num_nodes
