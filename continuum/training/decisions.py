"""What all processes must decide alike between two steps: to stop, to save by the clock.

With one process a look costs nothing. With several, the answers are put together by one small
collective, which also makes every process act at the same step. It waits for the device, so quick
steps share a look; slow ones do not, since a stop must be heeded while there is time to save.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from lightning import Fabric

MAX_STRIDE = 10
"""With several processes: optimizer steps between two looks, at most."""
LOOK_S = 1.0
"""Seconds between two looks, as nearly as whole steps allow."""


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
