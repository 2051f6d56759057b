"""Where and how a stage trains on a machine: every `auto` decided, and what the machine lacks.

The plan decides by what the driver says of this machine, training by what torch says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from continuum.errors import Needs, Problem
from continuum.experiment.fields import Precision
from continuum.experiment.precision import BF16, automatic_precision
from continuum.experiment.recipe import Recipe
from continuum.experiment.runtime import Devices
from continuum.formatting import plural
from continuum.preflight.compatibility import scaler_problems
from continuum.preflight.host import Host

BYTES_PER_PARAMETER_IN_TRAINING = 16
"""fp32 weights, gradients and Adam's two moments."""
DDP_SHARE_OF_MEMORY = 0.6
"""`auto` shards the model if that state alone would take more of a device than this."""


@dataclass(frozen=True)
class Placement:
    """What decides, with the recipe, how much memory a process of a training stage needs."""

    on_cpu: bool
    strategy: str
    """`single`, `ddp` or `fsdp`."""
    precision: str
    activation_checkpointing: str = "off"
    """`off`, `selective` or `full`."""
    accumulates_unsharded: bool = False
    """Whether an fsdp run adds up full gradients in each process and shards them once a step."""


def foreseen_placement(recipe: Recipe, host: Host, num_parameters: int | None = None) -> Placement:
    """The placement of a stage on this machine, without activation checkpointing.

    If a stage asks for CUDA and there is none, it is planned for another machine, whose device is
    assumed to support bf16.

    Args:
        num_parameters: Of the model; decides `strategy: auto` on a known GPU.
    """
    on_cpu = is_on_cpu(recipe.runtime, host)
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
        accumulates_unsharded=strategy == "fsdp" and recipe.runtime.accumulate_unsharded,
    )


def machine_problems(recipe: Recipe, host: Host) -> Iterator[Problem]:
    """What a training stage asks for that this machine lacks, or that no CPU supports."""
    runtime = recipe.runtime
    yield from device_problems(runtime, host)
    if is_on_cpu(runtime, host):
        yield from _cpu_problems(recipe, "spec" if runtime.accelerator == "cpu" else "machine")


def device_problems(devices: Devices, host: Host) -> Iterator[Problem]:
    """Devices and nodes that a stage asks for and this machine lacks."""
    if devices.num_nodes > 1 and host.in_slurm_job is False:
        yield Problem(
            ("runtime", "num_nodes"),
            f"runtime.num_nodes is {devices.num_nodes}, which needs a Slurm job around the run "
            "(SLURM_JOB_ID and srun); submit it with sbatch, or set num_nodes to 1",
            needs="machine",
        )
    elif host.num_nodes is not None and devices.num_nodes > host.num_nodes:
        yield Problem(
            ("runtime", "num_nodes"),
            f"runtime.num_nodes is {devices.num_nodes}, but this Slurm job has {host.num_nodes}; "
            f"submit it with --nodes={devices.num_nodes}, or change num_nodes",
            needs="machine",
        )
    if is_on_cpu(devices, host):
        return
    if not host.has_cuda_device:
        yield Problem(
            ("runtime", "accelerator"),
            "runtime.accelerator is cuda, but no CUDA device was found; use auto or cpu, or check "
            "the driver with nvidia-smi",
            needs="machine",
        )
    elif host.num_devices is not None and devices.devices > host.num_devices:
        yield Problem(
            ("runtime", "devices"),
            f"runtime.devices is {devices.devices}, but this machine has "
            f"{plural(host.num_devices, 'CUDA device')}",
            needs="machine",
        )


def _cpu_problems(recipe: Recipe, needs: Needs) -> Iterator[Problem]:
    attention = recipe.runtime.attention
    if attention in ("cudnn", "efficient"):
        yield Problem(
            ("runtime", "attention"),
            f"runtime.attention {attention} needs a CUDA device, and this stage runs on the CPU; "
            "use auto",
            needs=needs,
        )
    yield from half_problems(recipe.precision, on_cpu=True, needs=needs)
    if recipe.optimizer.arguments.get("capturable"):
        yield Problem(
            ("optimizer", "capturable"),
            "optimizer.capturable is for CUDA graphs, and this stage runs on the CPU; remove it",
            needs=needs,
        )


def half_problems(
    precision: Precision, *, on_cpu: bool, needs: Needs = "machine"
) -> Iterator[Problem]:
    """A precision that no CPU supports: Fabric would use bf16-mixed instead."""
    if on_cpu and precision == "16-mixed":
        yield Problem(
            ("precision",),
            "precision 16-mixed needs a CUDA device, and this stage runs on the CPU; use "
            "bf16-mixed or 32-true",
            needs=needs,
        )


def is_on_cpu(devices: Devices, host: Host) -> bool:
    """Whether a stage computes on the CPU of this machine."""
    wanted = devices.accelerator
    return wanted == "cpu" or (wanted == "auto" and not host.has_cuda_device)


def automatic_strategy(num_parameters: int | None, memory_bytes: int) -> Literal["ddp", "fsdp"]:
    """The strategy for several CUDA devices with this much memory: `fsdp` for a large model."""
    needed = (num_parameters or 0) * BYTES_PER_PARAMETER_IN_TRAINING
    return "fsdp" if needed > DDP_SHARE_OF_MEMORY * memory_bytes else "ddp"


def strategy_of(recipe: Recipe) -> str:
    """`single`, `ddp` or `fsdp`; for `auto`, the one that needs less memory to save."""
    written = recipe.runtime.strategy
    return "single" if recipe.runtime.world_size == 1 else "ddp" if written == "auto" else written
