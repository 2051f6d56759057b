"""What all processes of a run must decide, hold and report alike.

Between two steps they decide together to stop or to save by the clock. With one process a look
costs nothing. With several, the answers are put together by one small collective, which also makes
every process act at the same step. It waits for the device, so quick steps share a look; slow ones
do not, since a stop must be heeded while there is time to save.
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

MAX_STRIDE = 10
"""With several processes: optimizer steps between two looks, at most."""
LOOK_S = 1.0
"""Seconds between two looks, as nearly as whole steps allow."""
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integer of as many bytes."""
SUMMED_AT_ONCE = 1 << 22
"""Elements whose integers are widened to be added: 32 MiB."""


@dataclass(frozen=True)
class Decision:
    """What is due after a step, besides what the step's number says."""

    stop: bool = False
    save: bool = False


class Decisions:
    """Asks the user's wish and the clock, and agrees with the other processes."""

    def __init__(
        self, fabric: Fabric, should_stop: Callable[[], bool], save_minutes: float | None
    ) -> None:
        self._fabric = fabric
        self._should_stop = should_stop
        self._save_s = None if save_minutes is None else save_minutes * 60
        self._saved_at = self._looked_at = time.monotonic()
        self._steps_left = self._stride = 1

    def after(self) -> Decision:
        """What to do after a step."""
        self._steps_left -= 1
        if self._fabric.world_size > 1 and self._steps_left:
            return Decision()
        now = time.monotonic()
        due = self._save_s is not None and now - self._saved_at >= self._save_s
        step_s = (now - self._looked_at) / self._stride
        stop, save, slowest_s = self._agree(self._should_stop(), due, step_s)
        self._looked_at = now
        self._steps_left = self._stride = stride_of(slowest_s)
        return Decision(stop > 0, save > 0)

    def stop_now(self) -> bool:
        """Whether to break off an evaluation."""
        return self._agree(self._should_stop())[0] > 0

    def has_saved(self) -> None:
        """Start the clock anew."""
        self._saved_at = time.monotonic()

    def _agree(self, *values: float) -> list[float]:
        """The largest of each value that any process has."""
        if self._fabric.world_size == 1:
            return list(values)
        most = torch.tensor([float(value) for value in values], device=self._fabric.device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        found: list[float] = most.tolist()
        return found


def stride_of(step_s: float) -> int:
    """Steps until the next look, when one takes so many seconds."""
    return max(1, min(MAX_STRIDE, int(LOOK_S / max(step_s, 1e-9))))


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


@contextmanager
def named_device_faults(fabric: Fabric, state: TrainingState) -> Iterator[None]:
    """Give what the device fails with its words, and the place where it happened.

    Raises:
        StageFailedError: the device, or a library that drives it, failed in this process. What a
            process fails with because it lost another one passes through: the other knows why.
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
