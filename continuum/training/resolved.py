"""What the `auto` fields of a run become on this machine, recorded with the run.

Precision follows the device, because LitGPT's default (`bf16-true`) is 25 times slower than fp32 on
a CPU without bf16 units. Everything follows from the recipe, the model and the device alone, so
each process of a run decides the same, and a recovery keeps what an earlier attempt chose.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from continuum.errors import PreflightError
from continuum.experiment.architecture import Architecture
from continuum.experiment.precision import (
    Capability,
    MatmulPrecision,
    automatic_precision,
    matmul_precision,
)
from continuum.experiment.recipe import Recipe, Runtime
from continuum.preflight.compatibility import scaler_problems
from continuum.preflight.device_errors import DRIVER_TOO_OLD, find_fault
from continuum.preflight.host import has_cuda_device, host_memory
from continuum.preflight.logits import LossHeadKind, loss_head_kind
from continuum.preflight.memory import fit_to_memory
from continuum.preflight.placement import Placement, automatic_strategy

CUDNN_FIRST = (9, 10)
"""Major compute capabilities of Hopper and of Blackwell in data centers: cuDNN's attention is said
to be 1.7 to 2.3 times as fast there as the kernels that torch's own order prefers to it."""
DEFAULT_ATTENTION = "default"


@dataclass(frozen=True)
class Resolved:
    """What the `auto` fields became, and on what."""

    accelerator: str
    device: str
    precision: str
    compile: bool
    num_threads: int
    strategy: str
    """`single`, `ddp` or `fsdp`."""
    world_size: int
    micro_batch_size: int
    deterministic: bool
    matmul_precision: MatmulPrecision = "highest"
    """torch's setting for products of fp32 matrices."""
    accumulate_unsharded: bool = False
    """Whether gradients are sharded once a step (`fsdp`), not once a micro-batch."""
    activation_checkpointing: str = "off"
    """`off`, `selective` or `full`."""
    attention: str = DEFAULT_ATTENTION
    """The kernels that attention may use, the preferred one first; `default` is torch's choice."""
    loss_head: LossHeadKind = "blocks"
    """How the loss of the output layer is computed; see `continuum.training.loss_head`."""
    torch_version: str = str(torch.__version__)

    def as_record(self) -> dict[str, Any]:
        """For `resolved.json`."""
        return asdict(self)


def resolve(recipe: Recipe, kept: Mapping[str, Any], shape: Architecture | None = None) -> Resolved:
    """Decide the `auto` fields.

    Args:
        kept: What an earlier attempt of the run decided.
        shape: The model's; without it nothing is decided by memory.

    Raises:
        PreflightError: the runtime asks for something that this machine does not have.
    """
    runtime = recipe.runtime
    on_cuda = _is_on_cuda(runtime)
    capability = _least_capability(runtime.devices) if on_cuda else None
    strategy = _strategy_of(runtime, on_cuda, shape)
    precision = _precision_of(recipe, kept, capability, strategy)
    if recipe.optimizer.arguments.get("capturable") and not on_cuda:
        raise PreflightError(
            "optimizer.capturable is for CUDA graphs, and this stage runs on the CPU; leave it out"
        )
    compiles = {"on": True, "off": False}.get(runtime.compile, on_cuda)
    resolved = Resolved(
        accelerator="cuda" if on_cuda else "cpu",
        device=torch.cuda.get_device_name() if on_cuda else "cpu",
        precision=precision,
        compile=compiles,
        num_threads=torch.get_num_threads(),
        strategy=strategy,
        world_size=runtime.devices * runtime.num_nodes,
        micro_batch_size=0,
        deterministic=runtime.deterministic,
        matmul_precision=matmul_precision(precision, on_cuda=on_cuda),
        accumulate_unsharded=strategy == "fsdp" and runtime.accumulate_unsharded,
        attention=attention_order(
            runtime.attention, capability, deterministic=runtime.deterministic
        ),
        loss_head=loss_head_kind(
            shape.fields if shape else {}, precision, on_cuda=on_cuda, compiles=compiles
        ),
    )
    size = kept.get("micro_batch_size")
    if runtime.micro_batch_size == "auto" and size in recipe.micro_batch_sizes():
        recipe = recipe.with_micro_batch_size(size)
    placement = placement_of(resolved)
    fitted, placement = fit_to_memory(recipe, shape, placement, _total_bytes(placement, shape))
    return replace(
        resolved,
        micro_batch_size=fitted.micro_batch_size,
        activation_checkpointing=placement.activation_checkpointing,
    )


def attention_order(wanted: str, capability: Capability | None, *, deterministic: bool) -> str:
    """The kernels of attention to try, in this order, as text.

    torch's own order puts cuDNN behind the plain kernel, so that it is never used. cuDNN's backward
    pass is not deterministic.

    Args:
        wanted: `runtime.attention`.
        capability: Of the CUDA devices; None of a CPU.

    Raises:
        PreflightError: the kernel that is wanted is none of this device, or not deterministic.
    """
    if wanted in ("cudnn", "efficient") and capability is None:
        raise PreflightError(
            f"runtime.attention {wanted} needs a CUDA device, and this stage runs on the CPU; "
            "use auto"
        )
    if wanted == "cudnn" and deterministic:
        raise PreflightError(
            "runtime.attention cudnn is not deterministic; use auto, or set runtime.deterministic "
            "to false"
        )
    if wanted != "auto":
        return wanted
    if capability is None:
        return DEFAULT_ATTENTION
    if deterministic:
        return "flash, efficient, math"
    if capability[0] in CUDNN_FIRST:
        return "cudnn, flash, efficient, math"
    return "flash, efficient, cudnn, math"


def placement_of(resolved: Resolved) -> Placement:
    """Where and how the stage trains, as the forecast of its memory takes it."""
    return Placement(
        on_cpu=resolved.accelerator != "cuda",
        strategy=resolved.strategy,
        precision=resolved.precision,
        activation_checkpointing=resolved.activation_checkpointing,
        accumulates_unsharded=resolved.accumulate_unsharded,
    )


def driver_problem() -> str | None:
    """Why CUDA cannot be used although there is a driver, which `auto` must not train past."""
    if torch.version.cuda is None or not has_cuda_device():
        return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return driver_refusal(str(error))
    return None


def driver_refusal(text: str) -> str | None:
    """What torch's error says about a driver that it cannot use; None of any other."""
    fault = find_fault(text) if re.search(DRIVER_TOO_OLD, text) else None
    return f"{fault.message}; or set runtime.accelerator to cpu ({text})" if fault else None


def _is_on_cuda(runtime: Runtime) -> bool:
    has_cuda = torch.cuda.is_available()
    if runtime.accelerator != "cpu" and not has_cuda and (problem := driver_problem()):
        raise PreflightError(problem)
    if runtime.accelerator == "cuda" and not has_cuda:
        raise PreflightError(
            "runtime.accelerator is cuda, but torch finds no CUDA device here; "
            "use auto or cpu, or check the driver with nvidia-smi"
        )
    on_cuda = has_cuda and runtime.accelerator != "cpu"
    if on_cuda and runtime.devices > torch.cuda.device_count():
        raise PreflightError(
            f"runtime.devices is {runtime.devices}, but there are "
            f"{torch.cuda.device_count()} CUDA devices here"
        )
    return on_cuda


def _least_capability(devices: int) -> Capability:
    return min(torch.cuda.get_device_capability(number) for number in range(devices))


def _strategy_of(runtime: Runtime, on_cuda: bool, shape: Architecture | None) -> str:
    if runtime.devices * runtime.num_nodes == 1:
        return "single"
    if runtime.strategy != "auto":
        return runtime.strategy
    if not on_cuda or shape is None:
        return "ddp"
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    return automatic_strategy(shape.num_parameters(), total_bytes)


def _precision_of(
    recipe: Recipe, kept: Mapping[str, Any], capability: Capability | None, strategy: str
) -> str:
    problems = list(scaler_problems(recipe, strategy))
    if recipe.precision == "auto":
        chosen: str = kept.get("precision") or automatic_precision(
            capability, can_scale=not problems
        )
    else:
        chosen = recipe.precision
    if chosen == "16-mixed" and capability is None:
        # Fabric would take bf16-mixed instead, and the record would be false.
        raise PreflightError(
            "precision 16-mixed needs a CUDA device, and this stage runs on the CPU; "
            "use bf16-mixed or 32-true"
        )
    if chosen == "16-mixed" and problems:
        raise PreflightError(str(problems[0]))
    return chosen


def _total_bytes(placement: Placement, shape: Architecture | None) -> int | None:
    """Memory of a device, or of the host where the CPU trains; None off Linux."""
    if shape is None:
        return None
    if not placement.on_cpu:
        return torch.cuda.get_device_properties(0).total_memory
    here = host_memory()
    return here.total_bytes if here else None
