"""Runtime to Fabric: which device, which precision, compiled or not, how many processes.

`auto` follows the device, because LitGPT's default (`bf16-true`) is 25 times slower than fp32 on
a CPU without bf16 units. What it became is recorded with the run, and a recovery keeps it.

More than one process means DDP, or FSDP2 (`fully_shard` through `ModelParallelStrategy`), which
runs on CPU and GPU by the same code. Fabric's FSDP1 refuses CPUs, and with one device a node
LitGPT's HYBRID_SHARD trains every node by itself without a word.
"""

import gc
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.strategies.model_parallel import ModelParallelStrategy
from lightning.fabric.strategies.strategy import Strategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from continuum.device_faults import DRIVER_TOO_OLD, find_fault
from continuum.errors import PreflightError
from continuum.precision import (
    Capability,
    MatmulPrecision,
    automatic_precision,
    matmul_precision,
)
from continuum.preflight.fitness import scaler_problems
from continuum.preflight.host import has_cuda_device
from continuum.preflight.placement import automatic_strategy
from continuum.recipe import Recipe, Runtime
from continuum.training.tied import has_tied_embeddings, tie_embeddings


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
    torch_version: str = str(torch.__version__)


def resolve(recipe: Recipe, kept: dict[str, Any], num_parameters: int | None = None) -> Resolved:
    """Decide the `auto` fields; `kept` is what an earlier attempt of the run decided.

    Raises:
        PreflightError: CUDA is asked for and there is none, or too few devices.
    """
    runtime = recipe.runtime
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
    if recipe.optimizer.arguments.get("capturable") and not on_cuda:
        raise PreflightError(
            "optimizer.capturable is for CUDA graphs, and this stage runs on the CPU; leave it out"
        )
    strategy = _strategy_of(runtime, on_cuda, num_parameters)
    precision = recipe.precision
    if precision == "auto":
        precision = kept.get("precision") or automatic_precision(
            _least_capability(runtime.devices) if on_cuda else None,
            can_scale=not list(scaler_problems(recipe, strategy)),
        )
    if precision == "16-mixed" and not on_cuda:
        # Fabric would take bf16-mixed instead, and the record would be false.
        raise PreflightError(
            "precision 16-mixed needs a CUDA device, and this stage runs on the CPU; "
            "use bf16-mixed or 32-true"
        )
    if precision == "16-mixed":
        for misfit in scaler_problems(recipe, strategy):
            raise PreflightError(str(misfit))
    return Resolved(
        accelerator="cuda" if on_cuda else "cpu",
        device=torch.cuda.get_device_name() if on_cuda else "cpu",
        precision=precision,
        compile={"on": True, "off": False}.get(runtime.compile, on_cuda),
        num_threads=torch.get_num_threads(),
        strategy=strategy,
        world_size=runtime.devices * runtime.num_nodes,
        micro_batch_size=runtime.micro_batch_size,
        deterministic=runtime.deterministic,
        matmul_precision=matmul_precision(precision, on_cuda=on_cuda),
        accumulate_unsharded=strategy == "fsdp" and runtime.accumulate_unsharded,
    )


def _least_capability(devices: int) -> Capability:
    return min(torch.cuda.get_device_capability(number) for number in range(devices))


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
    fault = find_fault(text) if DRIVER_TOO_OLD.search(text) else None
    return f"{fault.message}; or set runtime.accelerator to cpu ({text})" if fault else None


def _strategy_of(runtime: Runtime, on_cuda: bool, num_parameters: int | None) -> str:
    if runtime.devices * runtime.num_nodes == 1:
        return "single"
    if runtime.strategy != "auto":
        return runtime.strategy
    if not on_cuda or num_parameters is None:
        return "ddp"
    return automatic_strategy(num_parameters, torch.cuda.get_device_properties(0).total_memory)


def make_fabric(resolved: Resolved, runtime: Runtime) -> Fabric:
    """A launched Fabric: one device, or this process's part of several."""
    if resolved.deterministic:
        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # Else every new tensor is filled before it is written, which torch warns costs time, and
        # which changes no result but that of a program that reads what it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision(resolved.matmul_precision)
    fabric = Fabric(
        accelerator=resolved.accelerator,
        devices=runtime.devices,
        num_nodes=runtime.num_nodes,
        strategy=_make_strategy(resolved, timedelta(seconds=runtime.collective_timeout)),
        precision=resolved.precision,  # type: ignore[arg-type]  # a literal of the same names
        plugins=_environment(resolved),
    )
    fabric.launch()
    return fabric


def _environment(resolved: Resolved) -> ClusterEnvironment:
    """Who started the processes: torchrun, or nobody where there is one.

    Left to itself, Fabric takes the variables of a Slurm job around a single process for a group
    of its own, and waits for the others for ever.
    """
    return TorchElasticEnvironment() if resolved.world_size > 1 else LightningEnvironment()


def _make_strategy(resolved: Resolved, timeout: timedelta) -> str | Strategy:
    if resolved.strategy == "ddp":
        # Gradients that are added up where they lie, not in copies; and the only buffers are the
        # RoPE cache, which every process has computed.
        return DDPStrategy(timeout=timeout, gradient_as_bucket_view=True, broadcast_buffers=False)
    if resolved.strategy == "fsdp":
        return ModelParallelStrategy(
            parallelize_fn=partial(_shard, policy=_policy_of(resolved.precision)),
            data_parallel_size=resolved.world_size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            timeout=timeout,
        )
    return "auto"


def _policy_of(precision: str) -> MixedPrecisionPolicy:
    """What FSDP2 gathers and adds up weights and gradients in: bf16 and fp32, if not all is fp32.

    Gradients of many processes are a sum of many terms, of which bf16 would keep eight bits. What
    a block is given stays as it is: the RoPE cache is in fp32.
    """
    if precision == "32-true":
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def _shard(model: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> nn.Module:
    """Shard each transformer block by itself, then what remains, over all processes.

    The model comes from the meta device: what each process allocates is its shards alone. Their
    values are set later; only the RoPE cache, a buffer without a place in any checkpoint, is
    computed here.
    """
    data_parallel = mesh["data_parallel"]
    core: Any = getattr(model, "_orig_mod", model)
    for block in core.transformer.h:
        fully_shard(block, mesh=data_parallel, mp_policy=policy)
    fully_shard(core, mesh=data_parallel, mp_policy=policy)
    on_cuda = mesh.device_type == "cuda"
    is_tied = has_tied_embeddings(core)
    core.to_empty(device=torch.device("cuda", torch.cuda.current_device()) if on_cuda else "cpu")
    if is_tied:
        tie_embeddings(core)  # emptied one after the other, they have become two tensors
    core.reset_parameters()
    return model


def leave_group(*, together: bool) -> None:
    """End this process's part in the process group.

    gloo aborts the interpreter at exit when models outlive the group, so what is left of them is
    collected first, and the processes part in step when all is well.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    gc.collect()
    if together:
        dist.barrier()
    dist.destroy_process_group()


def as_record(resolved: Resolved) -> dict[str, Any]:
    """For `resolved.json`."""
    return asdict(resolved)
