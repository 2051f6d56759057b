"""The training loop, to be read straight down.

Forward, backward, clip, step, log, evaluate, save: in this order, once for every optimizer step.
What changes is in `TrainingState`; everything else is fixed before the first step.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Fabric
from torch import nn

from continuum.errors import StageFailedError, StoppedError
from continuum.training.data import TrainingData, ValidationData
from continuum.training.litgpt import next_token_loss
from continuum.training.metrics import MetricsLog
from continuum.training.schedule import LearningRate
from continuum.training.state import TrainingState

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Task:
    """What `fit` is to do, fixed for the whole run."""

    num_steps: int
    tokens_per_step: int
    rate: LearningRate
    max_norm: float | None
    log_every: int
    evaluate_every: int | None
    checkpoint_every: int
    save_steps: frozenset[int]
    data: TrainingData
    validation: Mapping[str, ValidationData]
    """Validation splits by dataset, each evaluated by itself; the first is `val_loss`."""
    evaluate_final: bool

    def evaluates_at(self, step: int) -> bool:
        if step == self.num_steps:
            return self.evaluate_final or self._is_due(step, self.evaluate_every)
        return self._is_due(step, self.evaluate_every)

    def saves_at(self, step: int) -> bool:
        due = self._is_due(step, self.checkpoint_every)
        return due or step in self.save_steps or step == self.num_steps

    @staticmethod
    def _is_due(step: int, every: int | None) -> bool:
        return every is not None and step % every == 0


def fit(
    fabric: Fabric,
    state: TrainingState,
    task: Task,
    *,
    log: MetricsLog,
    save: Callable[[TrainingState], None],
    report: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> None:
    """Train from `state.step` to `task.num_steps`; `state` ends at the last optimizer step.

    Raises:
        StoppedError: `should_stop` said so; the state of the last step is saved.
        StageFailedError: the loss or its gradients are no numbers any more; nothing of it is saved.
    """
    clock = Clock(task, state)
    while state.step < task.num_steps:
        state.learning_rate = task.rate.at(state.tokens_seen)
        for group in state.optimizer.param_groups:
            group["lr"] = state.learning_rate

        loss = accumulate_gradients(fabric, state.model, task.data, state.step)
        norm = None
        if task.max_norm is not None:
            norm = clip_gradients(fabric, state, task.max_norm)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        state.tokens_seen += task.tokens_per_step

        if state.step % task.log_every == 0 or state.step == task.num_steps:
            state.metrics["loss"] = finite(loss, state.step)
            row = {
                "tokens": state.tokens_seen,
                "tokens_total": state.tokens_total,
                "loss": state.metrics["loss"],
                "lr": state.learning_rate,
                "grad_norm": None if norm is None else norm.item(),
                **clock.measure(state.step),
            }
            log.write(step=state.step, **row)
            report({"event": "train", "step": state.step, "num_steps": task.num_steps, **row})

        if task.validation and task.evaluates_at(state.step):
            with clock.paused():
                losses = evaluate_all(fabric, state.model, task.validation)
            state.metrics.update(losses)
            log.write(step=state.step, tokens=state.tokens_seen, **losses)
            report({"event": "evaluate", "step": state.step, **losses})

        stop = should_stop() and state.step < task.num_steps
        if task.saves_at(state.step) or stop:
            finite(loss, state.step)
            with clock.paused():
                save(state)
        if stop:
            raise StoppedError(f"stopped after step {state.step:,}; run again to go on from there")


def accumulate_gradients(
    fabric: Fabric, model: nn.Module, data: TrainingData, step: int
) -> torch.Tensor:
    """Backward through all micro-batches of a step; their mean loss, still on the device."""
    total = torch.zeros((), device=fabric.device)
    for number, (inputs, targets) in enumerate(data.micro_batches(step), start=1):
        inputs, targets = fabric.to_device((inputs, targets))
        is_accumulating = number < data.num_micro_batches
        with fabric.no_backward_sync(model, enabled=is_accumulating):  # type: ignore[arg-type]
            loss = next_token_loss(model(inputs), targets)
            fabric.backward(loss / data.num_micro_batches)
        total += loss.detach()
    return total / data.num_micro_batches


def clip_gradients(fabric: Fabric, state: TrainingState, max_norm: float) -> torch.Tensor:
    """Scale the gradients down to `max_norm`; returns their norm before.

    Raises:
        StageFailedError: they are not finite. With fp16 they may be: the scaler skips such a step.
    """
    has_scaler = getattr(fabric.strategy.precision, "scaler", None) is not None
    norm = fabric.clip_gradients(
        state.model, state.optimizer, max_norm=max_norm, error_if_nonfinite=False
    )
    assert norm is not None, "only a closure of the user's own returns none"
    if not has_scaler:
        finite(norm, state.step + 1, "gradient norm")
    return norm


def finite(value: torch.Tensor, step: int, name: str = "loss") -> float:
    """The number in `value`.

    Raises:
        StageFailedError: it is infinite or NaN.
    """
    number = float(value.item())
    if not math.isfinite(number):
        raise StageFailedError(
            f"the {name} is {number} at step {step:,}: training has diverged; "
            "lower optimizer.lr, lengthen schedule.warmup or set max_norm"
        )
    return number


def evaluate_all(
    fabric: Fabric, model: nn.Module, validation: Mapping[str, ValidationData]
) -> dict[str, float]:
    """Validation losses in nats a token: `val_loss` of the first split, `val_loss/NAME` of all."""
    losses = {name: evaluate(fabric, model, split.batches()) for name, split in validation.items()}
    first = next(iter(losses.values()))
    named = {f"val_loss/{name}": loss for name, loss in losses.items()} if len(losses) > 1 else {}
    return {"val_loss": first, **named}


@torch.no_grad()
def evaluate(fabric: Fabric, model: nn.Module, batches: Iterable[Batch]) -> float:
    """Mean loss over `batches`, each row counting the same."""
    model.eval()
    total, rows = torch.zeros((), device=fabric.device, dtype=torch.float64), 0
    for inputs, targets in batches:
        inputs, targets = fabric.to_device((inputs, targets))
        total += next_token_loss(model(inputs), targets) * len(inputs)
        rows += len(inputs)
    model.train()
    return float(total.item()) / rows


class Clock:
    """Tokens a second and time left, from the time spent in training steps alone."""

    def __init__(self, task: Task, state: TrainingState) -> None:
        self._task = task
        self._first_step = self._last_step = state.step
        self._started_at = self._last_at = time.perf_counter()
        self._paused_s = 0.0
        self._pause_began_at = 0.0

    def measure(self, step: int) -> dict[str, float]:
        """Speed since the last call, and seconds until the end at the average speed."""
        now = time.perf_counter() - self._paused_s
        tokens = (step - self._last_step) * self._task.tokens_per_step
        speed = tokens / max(now - self._last_at, 1e-9)
        average_s = (now - self._started_at) / max(1, step - self._first_step)
        self._last_step, self._last_at = step, now
        return {
            "tokens_per_s": round(speed, 1),
            "eta_s": round(average_s * (self._task.num_steps - step), 1),
        }

    def paused(self) -> "Clock":
        """A context in which the clock stands still: evaluating and saving are not training."""
        return self

    def __enter__(self) -> None:
        self._pause_began_at = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._paused_s += time.perf_counter() - self._pause_began_at
