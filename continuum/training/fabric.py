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
from torch.distributed.fsdp import fully_shard

from continuum.device_faults import DRIVER_TOO_OLD, find_fault
from continuum.errors import PreflightError
from continuum.preflight.fitness import scaler_problems
from continuum.preflight.host import has_cuda_device
from continuum.recipe import Recipe, Runtime
from continuum.training.tied import has_tied_embeddings, tie_embeddings

BYTES_PER_PARAMETER_IN_TRAINING = 16
"""fp32 weights, gradients and Adam's two moments."""
DDP_SHARE_OF_MEMORY = 0.6
"""`auto` shards the model when that state alone would take more of a device than this."""


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
    precision = recipe.precision
    if precision == "auto":
        precision = kept.get("precision") or _precision_of(on_cuda)
    if precision == "16-mixed" and not on_cuda:
        # Fabric would take bf16-mixed instead, and the record would be false.
        raise PreflightError(
            "precision 16-mixed needs a CUDA device, and this stage runs on the CPU; "
            "use bf16-mixed or 32-true"
        )
    strategy = _strategy_of(runtime, on_cuda, num_parameters)
    if precision == "16-mixed":
        for problem in scaler_problems(recipe, strategy):
            raise PreflightError(problem)
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
    fault = find_fault(text) if DRIVER_TOO_OLD.search(text) else None
    return f"{fault.message}; or set runtime.accelerator to cpu ({text})" if fault else None


def _precision_of(on_cuda: bool) -> Any:
    if not on_cuda:
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def _strategy_of(runtime: Runtime, on_cuda: bool, num_parameters: int | None) -> str:
    if runtime.devices * runtime.num_nodes == 1:
        return "single"
    if runtime.strategy != "auto":
        return runtime.strategy
    if not on_cuda or num_parameters is None:
        return "ddp"
    memory = torch.cuda.get_device_properties(0).total_memory
    needed = num_parameters * BYTES_PER_PARAMETER_IN_TRAINING
    return "fsdp" if needed > DDP_SHARE_OF_MEMORY * memory else "ddp"


def make_fabric(resolved: Resolved, runtime: Runtime) -> Fabric:
    """A launched Fabric: one device, or this process's part of several."""
    if resolved.deterministic:
        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
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
        return DDPStrategy(timeout=timeout)
    if resolved.strategy == "fsdp":
        return ModelParallelStrategy(
            parallelize_fn=_shard,
            data_parallel_size=resolved.world_size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            timeout=timeout,
        )
    return "auto"


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard each transformer block by itself, then what remains, over all processes.

    The model comes from the meta device: what each process allocates is its shards alone. Their
    values are set later; only the RoPE cache, a buffer without a place in any checkpoint, is
    computed here.
    """
    data_parallel = mesh["data_parallel"]
    core: Any = getattr(model, "_orig_mod", model)
    for block in core.transformer.h:
        fully_shard(block, mesh=data_parallel)
    fully_shard(core, mesh=data_parallel)
    on_cuda = mesh.device_type == "cuda"
    is_tied = has_tied_embeddings(core)
    core.to_empty(device=torch.device("cuda", torch.cuda.current_device()) if on_cuda else "cpu")
    if is_tied:
        tie_embeddings(core)  # emptied one after the other, they have become two tensors
    core.reset_parameters()
    return model


def check_ranks_agree(fabric: Fabric, model: nn.Module) -> None:
    """Compare a checksum of all parameters across processes, after their first common step.

    Raises:
        RuntimeError: the processes train on their own (a wrong strategy or mesh): a bug here or
            in a library, found before it costs a run.
    """
    if fabric.world_size == 1:
        return
    total = torch.zeros((), dtype=torch.float64, device=fabric.device)
    for parameter in model.parameters():
        whole = _whole(parameter.detach(), fabric.world_size)
        total += whole.double().abs().sum()
    sums = [torch.zeros_like(total) for _ in range(fabric.world_size)]
    dist.all_gather(sums, total)
    if len({str(value.item()) for value in sums}) != 1:  # NaN equals none, not even itself
        listed = ", ".join(f"rank {rank}: {value.item()!r}" for rank, value in enumerate(sums))
        raise RuntimeError(f"the processes hold different parameters after one step ({listed})")


def _whole(parameter: torch.Tensor, world_size: int) -> torch.Tensor:
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return parameter
    if mesh.size() != world_size:
        raise RuntimeError(f"sharded over {mesh.size()} of {world_size} processes")
    gathered: torch.Tensor = parameter.full_tensor()  # type: ignore[attr-defined]
    return gathered


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
