"""What all processes must decide alike between two steps: to stop, to save by the clock.

With one process a look costs nothing. With several, the answers are put together by one small
collective, which also makes every process act at the same step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from lightning import Fabric

LOOK_EVERY = 10
"""With several processes: optimizer steps between two looks, since each waits for the device."""


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
        self._saved_at = time.monotonic()

    def after(self, step: int) -> Decision:
        """What to do after this step."""
        if self._fabric.world_size > 1 and step % LOOK_EVERY:
            return Decision()
        due = self._save_s is not None and time.monotonic() - self._saved_at >= self._save_s
        stop, save = self._agree(self._should_stop(), due)
        return Decision(stop, save)

    def stop_now(self) -> bool:
        """Whether to break off an evaluation."""
        return self._agree(self._should_stop(), False)[0]

    def has_saved(self) -> None:
        """Start the clock anew."""
        self._saved_at = time.monotonic()

    def _agree(self, *wishes: bool) -> list[bool]:
        """Each wish, if any process has it."""
        if self._fabric.world_size == 1:
            return list(wishes)
        flags = torch.tensor([float(wish) for wish in wishes], device=self._fabric.device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return [value > 0 for value in flags.tolist()]
