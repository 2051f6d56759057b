"""What all processes of a run must agree on: when to stop and save, parameters, errors.

Between two steps they decide together whether to stop, or to save by the clock. A single process
checks after every step, which costs nothing. Several combine their answers in one small collective,
which also makes every process act at the same step. It waits for the device, so fast steps share a
check; slow steps do not, since a stop must be handled while there is time to save.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from lightning import Fabric
from torch import nn
from torch.distributed.tensor import DTensor

from continuum.errors import StageFailedError
from continuum.preflight.device_errors import describe_device_fault
from continuum.training.state import TrainingState
from continuum.training.weights import INTEGERS

MAX_STRIDE = 10
"""With several processes: the maximum of optimizer steps between two checks."""
CHECK_S = 1.0
"""The target for the seconds between two checks."""
SUMMED_AT_ONCE = 1 << 22
"""Elements that are widened to 64 bits at a time: 32 MiB."""


@dataclass(frozen=True)
class Decision:
    """What is due after a step, in addition to what depends on the step's number."""

    stop: bool = False
    save: bool = False


class Decisions:
    """Combines stop requests and the clock over all processes."""

    def __init__(
        self, fabric: Fabric, should_stop: Callable[[], bool], save_minutes: float | None
    ) -> None:
        self._fabric = fabric
        self._should_stop = should_stop
        self._save_s = None if save_minutes is None else save_minutes * 60
        self._saved_at = self._checked_at = time.monotonic()
        self._steps_left = self._stride = 1

    def after(self) -> Decision:
        """What is due after a step; collective when a check is due."""
        self._steps_left -= 1
        if self._fabric.world_size > 1 and self._steps_left:
            return Decision()
        now = time.monotonic()
        due = self._save_s is not None and now - self._saved_at >= self._save_s
        step_s = (now - self._checked_at) / self._stride
        stop, save, slowest_s = self._agree(self._should_stop(), due, step_s)
        self._checked_at = now
        self._steps_left = self._stride = stride_of(slowest_s)
        return Decision(stop > 0, save > 0)

    def stop_now(self) -> bool:
        """Whether to interrupt an evaluation; collective."""
        return self._agree(self._should_stop())[0] > 0

    def has_saved(self) -> None:
        """Restart the clock."""
        self._saved_at = time.monotonic()

    def _agree(self, *values: float) -> list[float]:
        """The maximum of each value over all processes."""
        if self._fabric.world_size == 1:
            return list(values)
        most = torch.tensor([float(value) for value in values], device=self._fabric.device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        found: list[float] = most.tolist()
        return found


def stride_of(step_s: float) -> int:
    """Steps until the next check, when a step takes this many seconds."""
    return max(1, min(MAX_STRIDE, int(CHECK_S / max(step_s, 1e-9))))


def check_ranks_agree(fabric: Fabric, model: nn.Module) -> None:
    """Compare a checksum of the parameters across processes after the first step.

    A parameter that is sharded over all processes has only one copy, so there is nothing to
    compare.

    Raises:
        RuntimeError: the processes train separately (a wrong strategy or mesh): a bug here or in a
            library, detected before it costs a run.
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
    """The sum of the bits of a tensor's elements as integers, modulo 2^64."""
    bits = tensor.detach().reshape(-1).view(INTEGERS[tensor.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for part in torch.split(bits, SUMMED_AT_ONCE):
        total += part.sum(dtype=torch.int64)
    return total


def _held_by_each(parameter: torch.Tensor, world_size: int) -> torch.Tensor | None:
    """The parameter if each process has all of it, None if it is sharded over all processes."""
    if not isinstance(parameter, DTensor):
        return parameter
    mesh = parameter.device_mesh
    if mesh.size() != world_size:
        raise RuntimeError(f"sharded over {mesh.size()} of {world_size} processes")
    if all(placement.is_shard() for placement in parameter.placements):
        return None
    return parameter.full_tensor()


@contextmanager
def named_device_faults(fabric: Fabric, state: TrainingState) -> Iterator[None]:
    """Explain a failure of the device, with the rank and the step.

    Raises:
        StageFailedError: the device, or a library that drives it, failed in this process. An error
            caused by the loss of another process is not translated: that process knows why.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        fault = describe_device_fault(error)
        if fault is None or not fault.is_cause:
            raise
        size = fabric.world_size
        who = f"rank {fabric.global_rank} of {size}, " if size > 1 else ""
        raise StageFailedError(f"{who}in step {state.step + 1:,}: {fault.message}") from error
