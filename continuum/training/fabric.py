"""Start Fabric with what was resolved: devices, strategy, precision and torch's settings.

Several processes use DDP, or FSDP2 (`fully_shard` through `ModelParallelStrategy`), which runs on
CPU and GPU with the same code. Fabric's FSDP1 refuses CPUs, and with one device per node LitGPT's
HYBRID_SHARD silently trains every node separately.
"""

import gc
import os
from contextlib import ExitStack
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
from torch.nn.attention import SDPBackend, sdpa_kernel

from continuum.experiment.runtime import Runtime
from continuum.training.resolved import DEFAULT_ATTENTION, Resolved
from continuum.training.weights import has_tied_embeddings, tie_embeddings

_ATTENTION = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
_chosen_attention = ExitStack()
"""Keeps torch's context of allowed attention kernels open until others are chosen."""


def use_attention(order: str) -> None:
    """Restrict scaled_dot_product_attention to these kernels, named as in `Resolved.attention`."""
    _chosen_attention.close()
    if order != DEFAULT_ATTENTION:
        kernels = [_ATTENTION[name] for name in order.split(", ")]
        _chosen_attention.enter_context(sdpa_kernel(kernels, set_priority=True))


def make_fabric(resolved: Resolved, runtime: Runtime) -> Fabric:
    """A launched Fabric, for this process's device."""
    if resolved.deterministic:
        # cuBLAS reads this when its first handle is created.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # By default every new tensor would be filled first, which costs time and only changes
        # the result of programs that read uninitialized memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision(resolved.matmul_precision)
    use_attention(resolved.attention)
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
    """torchrun's environment, or that of a single process.

    By default Fabric takes the variables of a Slurm job around a single process for a process
    group, and waits for the other processes forever.
    """
    return TorchElasticEnvironment() if resolved.world_size > 1 else LightningEnvironment()


def _make_strategy(resolved: Resolved, timeout: timedelta) -> str | Strategy:
    if resolved.strategy == "ddp":
        # Reduce gradients in place, not in copies. The only buffers are the RoPE cache, which every
        # process has computed.
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
    """Under FSDP2, gather weights in bf16 and reduce gradients in fp32, unless all is fp32.

    Gradients of many processes are sums of many terms, of which bf16 would keep eight bits. Inputs
    of a block are not cast: the RoPE cache is in fp32.
    """
    if precision == "32-true":
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def _shard(model: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> nn.Module:
    """Shard each transformer block separately, then the rest, over all processes.

    The model comes from the meta device, so each process allocates only its shards. Their values
    are set later; only the RoPE cache, a buffer that no checkpoint contains, is computed here.
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
        tie_embeddings(core)  # to_empty has made two tensors of them
    core.reset_parameters()
    return model


def leave_group(*, together: bool) -> None:
    """Leave the process group.

    gloo aborts the interpreter at exit if models outlive the group, so they are collected first.

    Args:
        together: Whether to wait for all processes, which must call this too.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    gc.collect()
    if together:
        dist.barrier()
    dist.destroy_process_group()
