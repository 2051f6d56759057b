"""Whether all processes of a run hold the same weights, found without a copy of them.

A sum of bits, unlike one of numbers, is the same in whatever order a device adds.
"""

import torch
import torch.distributed as dist
from lightning import Fabric
from torch import nn
from torch.distributed.tensor import DTensor

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer of as many bytes."""
SUMMED_AT_ONCE = 1 << 22
"""Elements whose integers are widened to be added: 32 MiB."""


def check_ranks_agree(fabric: Fabric, model: nn.Module) -> None:
    """Compare a checksum of the parameters across processes, after their first common step.

    Of a parameter that is sharded over all of them there is one copy, and nothing to compare.

    Raises:
        RuntimeError: the processes train on their own (a wrong strategy or mesh): a bug here or
            in a library, found before it costs a run.
    """
    if fabric.world_size == 1:
        return
    held = [_held_by_each(parameter, fabric.world_size) for parameter in model.parameters()]
    sums = [checksum(it) for it in held if it is not None]
    if not sums:
        return
    own = torch.stack(sums)
    everyones = [torch.empty_like(own) for _ in range(fabric.world_size)]
    dist.all_gather(everyones, own)
    if any(not torch.equal(theirs, own) for theirs in everyones):
        listed = ", ".join(f"rank {rank}: {int(it.sum())}" for rank, it in enumerate(everyones))
        raise RuntimeError(f"the processes hold different parameters after one step ({listed})")


def checksum(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor's elements as integers of their bits, modulo 2^64; a scalar."""
    bits = tensor.detach().reshape(-1).view(INTEGERS[tensor.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for part in torch.split(bits, SUMMED_AT_ONCE):
        total += part.sum(dtype=torch.int64)
    return total


def _held_by_each(parameter: torch.Tensor, world_size: int) -> torch.Tensor | None:
    """The parameter if each process has all of it, None if it is sharded over all of them."""
    if not isinstance(parameter, DTensor):
        return parameter
    mesh = parameter.device_mesh
    if mesh.size() != world_size:
        raise RuntimeError(f"sharded over {mesh.size()} of {world_size} processes")
    if all(placement.is_shard() for placement in parameter.placements):
        return None
    return parameter.full_tensor()
