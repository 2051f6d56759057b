"""What is logged of an optimizer step: at once on a CPU, one step late on a GPU.

To read a number from a GPU is to wait until it has done all that it was asked for, and then it has
nothing to do until the next step is asked for. So the numbers of a step are copied to pinned memory
behind the step, and read when the next one has been asked for.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from lightning import Fabric

from continuum.errors import StoppedError
from continuum.events import Report, Trained
from continuum.training.clock import Clock
from continuum.training.data import TrainingData
from continuum.training.guards import DivergedError, check_finite
from continuum.training.memory import peak_bytes
from continuum.training.metrics import MetricsLog
from continuum.training.state import TrainingState


class Numbers:
    """Scalars of a device, on their way to the host."""

    def __init__(self, *scalars: torch.Tensor) -> None:
        """Begin to copy them; a GPU is not waited for."""
        self._done: torch.cuda.Event | None = None
        if scalars[0].device.type != "cuda":
            self._copies = [scalar.detach().clone() for scalar in scalars]
            return
        on_device = torch.stack([scalar.detach().float() for scalar in scalars])
        host = torch.empty(len(scalars), dtype=torch.float32, pin_memory=True)
        self._copies = list(host.copy_(on_device, non_blocking=True))
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done.record()

    def read(self) -> list[float]:
        """The scalars; waits until the device has computed them."""
        if self._done is not None:
            self._done.synchronize()
        return [float(copy.item()) for copy in self._copies]


@dataclass(frozen=True)
class TakenStep:
    """A step that is still to be logged: what changes with the next one."""

    step: int
    tokens: int
    tokens_total: int | None
    lr: float
    skipped_steps: int
    is_skipped: bool
    numbers: Numbers
    """The loss, and the gradient norm of a step that was not skipped."""


class StepLog:
    """Writes and reports the row of each logged step.

    A context manager: a run that ends, stops or diverges leaves no row behind.
    """

    def __init__(
        self,
        fabric: Fabric,
        state: TrainingState,
        data: TrainingData,
        clock: Clock,
        *,
        num_steps: int,
        is_late: bool,
        checks_norm: bool,
        log: MetricsLog,
        report: Report,
    ) -> None:
        """Log nothing yet.

        Args:
            data: Names the samples of a step that diverged.
            is_late: Whether a row waits for `write`.
            checks_norm: Whether a gradient norm that is no number ends the run, as a loss does.
        """
        self._fabric, self._state, self._data, self._clock = fabric, state, data, clock
        self._num_steps, self._is_late, self._checks_norm = num_steps, is_late, checks_norm
        self._log, self._report = log, report
        self._pending: TakenStep | None = None

    def add(self, loss: torch.Tensor, norm: torch.Tensor | None) -> None:
        """Log the step that was just taken, now or when `write` is called.

        Args:
            loss: Of this process.
            norm: Of the gradients; None of a step that was skipped.

        Raises:
            DivergedError: what is written now is no number.
        """
        state = self._state
        mean = self._fabric.all_reduce(loss, reduce_op="mean")
        assert isinstance(mean, torch.Tensor)
        self._pending = TakenStep(
            step=state.step,
            tokens=state.tokens_seen,
            tokens_total=state.tokens_total if state.tokens_before_known else None,
            lr=state.learning_rate,
            skipped_steps=state.skipped_steps,
            is_skipped=norm is None,
            numbers=Numbers(mean) if norm is None else Numbers(mean, norm),
        )
        if not self._is_late:
            self.write()

    def write(self) -> None:
        """Write the row of the step that waits, if one does.

        Raises:
            DivergedError: its loss is no number, or its gradients.
        """
        taken, self._pending = self._pending, None
        if taken is None:
            return
        loss, *norms = taken.numbers.read()
        if self._checks_norm and norms:
            check_finite(norms[0], self._data, step=taken.step, name="gradient norm")
        if taken.is_skipped:
            self._state.metrics.pop("loss", None)
        else:
            self._state.metrics["loss"] = check_finite(loss, self._data, step=taken.step)
        row = {
            "tokens": taken.tokens,
            "tokens_total": taken.tokens_total,
            "loss": self._state.metrics.get("loss"),
            "lr": taken.lr,
            "grad_norm": norms[0] if norms else None,
            "skipped_steps": taken.skipped_steps,
            **self._clock.measure(taken.step),
            "memory_bytes": peak_bytes(self._fabric),
        }
        self._log.write(step=taken.step, **row)
        self._report(Trained(taken.step, self._num_steps, row))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, (StoppedError, DivergedError)):
            self.write()
