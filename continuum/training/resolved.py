"""Decide the `auto` fields of a run on this machine, recorded with the run.

Precision depends on the device, because LitGPT's default (`bf16-true`) is 25 times slower than fp32
on a CPU without bf16 units. Everything follows from the recipe, the model and the device, so all
processes of a run decide the same, and a recovery keeps what an earlier attempt decided.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from continuum.errors import PreflightError
from continuum.experiment.architecture import Architecture
from continuum.experiment.fields import Precision
from continuum.experiment.precision import (
    Capability,
    MatmulPrecision,
    automatic_precision,
    matmul_precision,
)
from continuum.experiment.recipe import Recipe
from continuum.experiment.runtime import Runtime
from continuum.preflight.compatibility import scaler_problems
from continuum.preflight.device_errors import DRIVER_TOO_OLD, find_fault
from continuum.preflight.host import CudaDevice, Host, has_cuda_device, host_memory
from continuum.preflight.memory import fit_to_memory
from continuum.preflight.model_size import LossHeadKind, loss_head_kind
from continuum.preflight.placement import (
    Placement,
    device_problems,
    foreseen_placement,
    half_problems,
    is_on_cpu,
    machine_problems,
)

CUDNN_FIRST = (9, 10)
"""Major compute capabilities of Hopper and of data center Blackwell, on which cuDNN's attention is
reported to be 1.7 to 2.3 times as fast as the kernels that torch prefers."""
DEFAULT_ATTENTION = "default"


@dataclass(frozen=True)
class Resolved:
    """The values of the `auto` fields, and the device they were decided for."""

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
    """The kernels that attention may use, by preference; `default` is torch's choice."""
    loss_head: LossHeadKind = "blocks"
    """How the loss of the output layer is computed; see `continuum.training.loss_head`."""
    torch_version: str = str(torch.__version__)

    def as_record(self) -> dict[str, Any]:
        """For `resolved.json`."""
        return asdict(self)

    @property
    def placement(self) -> Placement:
        """For estimates of memory."""
        return Placement(
            on_cpu=self.accelerator != "cuda",
            strategy=self.strategy,
            precision=self.precision,
            activation_checkpointing=self.activation_checkpointing,
            accumulates_unsharded=self.accumulate_unsharded,
        )


def resolve(
    recipe: Recipe,
    kept: Mapping[str, Any],
    shape: Architecture | None = None,
    host: Host | None = None,
) -> Resolved:
    """Decide the `auto` fields.

    Args:
        kept: The decisions of an earlier attempt of the run.
        shape: Of the model; without it memory is not considered.
        host: The machine; None for this one.

    Raises:
        PreflightError: this machine lacks what the runtime asks for.
    """
    runtime, host = recipe.runtime, host or host_by_torch(recipe.runtime)
    size = kept.get("micro_batch_size")
    if runtime.micro_batch_size == "auto" and size in recipe.micro_batch_sizes():
        recipe = recipe.with_micro_batch_size(size)
    if recipe.precision == "auto" and kept.get("precision"):
        recipe = recipe.model_copy(update={"precision": kept["precision"]})
    for problem in machine_problems(recipe, host):
        raise PreflightError(str(problem))
    placement = foreseen_placement(recipe, host, shape.num_parameters() if shape else None)
    precision, strategy, on_cuda = placement.precision, placement.strategy, not placement.on_cpu
    for problem in scaler_problems(recipe, strategy) if precision == "16-mixed" else ():
        raise PreflightError(str(problem))
    total_bytes = host.total_bytes(on_cpu=placement.on_cpu)
    recipe, placement = fit_to_memory(recipe, shape, placement, total_bytes)
    device = host.device if on_cuda else None
    compiles = {"on": True, "off": False}.get(runtime.compile, on_cuda)
    return Resolved(
        accelerator="cuda" if on_cuda else "cpu",
        device=device.name if device else "cpu",
        precision=precision,
        compile=compiles,
        num_threads=torch.get_num_threads(),
        strategy=strategy,
        world_size=runtime.world_size,
        micro_batch_size=recipe.micro_batch_size,
        deterministic=runtime.deterministic,
        matmul_precision=matmul_precision(precision, on_cuda=on_cuda),
        accumulate_unsharded=placement.accumulates_unsharded,
        activation_checkpointing=placement.activation_checkpointing,
        attention=attention_order(
            runtime.attention,
            device.capability if device else None,
            deterministic=runtime.deterministic,
        ),
        loss_head=loss_head_kind(
            shape.fields if shape else {}, precision, on_cuda=on_cuda, compiles=compiles
        ),
    )


def resolve_inference(runtime: Runtime, precision: Precision) -> Resolved:
    """Decide the `auto` fields of a stage that runs models without training them.

    Each process holds the whole model.

    Raises:
        PreflightError: this machine lacks what the runtime asks for.
    """
    host = host_by_torch(runtime)
    on_cpu = is_on_cpu(runtime, host)
    for problem in (*device_problems(runtime, host), *half_problems(precision, on_cpu=on_cpu)):
        raise PreflightError(str(problem))
    device = None if on_cpu else host.device
    capability = device.capability if device else None
    if precision == "auto":
        precision = automatic_precision(capability, can_scale=True)
    return Resolved(
        accelerator="cpu" if on_cpu else "cuda",
        device=device.name if device else "cpu",
        precision=precision,
        compile=False,
        num_threads=torch.get_num_threads(),
        strategy="single" if runtime.world_size == 1 else "ddp",
        world_size=runtime.world_size,
        micro_batch_size=1,
        deterministic=runtime.deterministic,
        matmul_precision=matmul_precision(precision, on_cuda=not on_cpu),
        attention=attention_order(
            runtime.attention, capability, deterministic=runtime.deterministic
        ),
    )


def attention_order(wanted: str, capability: Capability | None, *, deterministic: bool) -> str:
    """The attention kernels to try, in this order, as text.

    torch's own order puts cuDNN behind the plain kernel, so it is never used. cuDNN's backward pass
    is not deterministic.

    Args:
        wanted: `runtime.attention`.
        capability: Of the CUDA devices; None for a CPU.
    """
    if wanted != "auto":
        return wanted
    if capability is None:
        return DEFAULT_ATTENTION
    if deterministic:
        return "flash, efficient, math"
    if capability[0] in CUDNN_FIRST:
        return "cudnn, flash, efficient, math"
    return "flash, efficient, cudnn, math"


def host_by_torch(runtime: Runtime) -> Host:
    """This machine and its CUDA devices, as far as torch can use them.

    Raises:
        PreflightError: there is a driver that this torch cannot use, which `auto` must not ignore.
    """
    memory = host_memory()
    if runtime.accelerator == "cpu":  # querying a GPU would claim memory on it
        return Host(memory, has_cuda_device=False)
    if not torch.cuda.is_available():
        if problem := _driver_problem():
            raise PreflightError(problem)
        return Host(memory, has_cuda_device=False)
    count = torch.cuda.device_count()
    used = range(min(runtime.devices, count))
    device = CudaDevice(
        torch.cuda.get_device_name(),
        min(torch.cuda.get_device_capability(number) for number in used),
        torch.cuda.get_device_properties(0).total_memory,
    )
    return Host(memory, has_cuda_device=True, device=device, num_devices=count)


def driver_refusal(text: str) -> str | None:
    """Explain torch's error about a driver that it cannot use; None for any other error."""
    fault = find_fault(text) if re.search(DRIVER_TOO_OLD, text) else None
    return f"{fault.message}; or set runtime.accelerator to cpu ({text})" if fault else None


def _driver_problem() -> str | None:
    if torch.version.cuda is None or not has_cuda_device():
        return None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return driver_refusal(str(error))
    return None
