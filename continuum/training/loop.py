"""The training loop, to be read straight down.

Forward, backward, clip, step, log, evaluate, save: in this order, once for every optimizer step.
What changes is in `TrainingState`; everything else is fixed before the first step.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from lightning import Fabric
from torch import nn
from torch.distributed.tensor import DTensor

from continuum.errors import StoppedError
from continuum.runs.artifacts import record_best
from continuum.runs.events import Evaluated, Report
from continuum.training.data import TrainingData, ValidationData, to_device
from continuum.training.divergence import (
    MIN_LOSS_SCALE,
    DivergedError,
    check_finite,
    check_losses,
    check_weights,
    last_taken,
    note_skipped,
)
from continuum.training.metrics import Clock, MetricsLog, StepLog
from continuum.training.model import eagerly, next_token_loss
from continuum.training.rank_sync import Decisions, check_ranks_agree
from continuum.training.schedule import LearningRate
from continuum.training.state import TrainingState


@dataclass(frozen=True)
class Task:
    """What `fit` is to do, fixed for the whole run."""

    num_steps: int
    tokens_per_step: int
    rate: LearningRate
    max_norm: float | None
    log_every: int
    evaluate_every: int | None
    checkpoint_every: int | None
    save_steps: frozenset[int]
    data: TrainingData
    validation: Mapping[str, ValidationData]
    """Validation splits by dataset, each evaluated by itself; the first is `val_loss`."""
    evaluate_final: bool
    start_step: int = 0
    """The step that the stage begins from, which no checkpoint of it is of."""
    checkpoint_minutes: float | None = None
    skips_nonfinite: bool = False
    """Whether a step with gradients that are no numbers is left out instead of ending the run."""
    best_metrics: tuple[str, ...] = ()
    """Validation losses whose best step is noted and saved."""
    logs_late: bool = False
    """Whether a step's numbers are read when the next step has been asked for, as a GPU likes."""
    reduces_once: bool = True
    """Whether processes add up their gradients once a step, and hold their own until then."""
    most_tokens_per_s: float | None = None
    """What all devices could train on at their peak rate, if it is known."""

    @property
    def checks_every_step(self) -> bool:
        """Whether a norm that is no number ends the run: seen for nothing where each is logged."""
        return self.log_every == 1 and not self.skips_nonfinite

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
    report: Report,
    should_stop: Callable[[], bool],
) -> None:
    """Train from `state.step` to `task.num_steps`; `state` ends at the last optimizer step.

    Raises:
        StoppedError: `should_stop` said so; the state of the last step is saved.
        DivergedError: nothing of what is no number is saved.
    """
    clock = Clock(
        step=state.step,
        num_steps=task.num_steps,
        tokens_per_step=task.tokens_per_step,
        most_tokens_per_s=task.most_tokens_per_s,
    )
    decisions = Decisions(fabric, should_stop, task.checkpoint_minutes)
    first_step = state.step + 1
    if state.owes_evaluation:
        with clock.paused():
            is_best = _evaluate(fabric, state, task, decisions, log=log, report=report)
        _after_owed_evaluation(state, task, save, is_best=is_best)
    rows = StepLog(
        fabric,
        state,
        task.data,
        clock,
        num_steps=task.num_steps,
        is_late=task.logs_late,
        checks_norm=task.checks_every_step,
        log=log,
        report=report,
    )
    with rows:
        while state.step < task.num_steps:
            set_learning_rate(state, task.rate.at(state.tokens_seen))
            loss = accumulate_gradients(fabric, state.model, task, state.step)
            norm = clip_gradients(fabric, state, task)
            take_step(state, norm)
            state.step += 1
            state.tokens_seen += task.tokens_per_step
            state.skipped_tokens += task.tokens_per_step if norm is None else 0
            if state.step == first_step:
                check_ranks_agree(fabric, state.model)

            rows.write()  # of the step before, if it waits
            if state.step % task.log_every == 0 or state.step == task.num_steps:
                rows.add(loss, norm)

            is_best = False
            if task.validation and task.evaluates_at(state.step):
                rows.write()
                with clock.paused():
                    is_best = _evaluate(fabric, state, task, decisions, log=log, report=report)

            due = decisions.after()
            stop = state.owes_evaluation or (due.stop and state.step < task.num_steps)
            if task.saves_at(state.step) or due.save or is_best or stop:
                rows.write()
                with clock.paused():
                    check_before_saving(fabric, state, task, loss, norm)
                    save(state)
                decisions.has_saved()
            if stop:
                raise StoppedError(_stopped(state.step))


def _after_owed_evaluation(
    state: TrainingState, task: Task, save: Callable[[TrainingState], None], *, is_best: bool
) -> None:
    """Save the step again where it stays: what is on disk does not know its evaluation.

    Raises:
        StoppedError: the evaluation was broken off once more.
    """
    if state.owes_evaluation:
        raise StoppedError(_stopped(state.step))
    if state.step > task.start_step and (is_best or task.saves_at(state.step)):
        save(state)


def _evaluate(
    fabric: Fabric,
    state: TrainingState,
    task: Task,
    decisions: Decisions,
    *,
    log: MetricsLog,
    report: Report,
) -> bool:
    """Evaluate after a step, or note that it is owed when the run is to stop.

    Whether the step is the best so far by any metric that others want the best of.
    """
    if not task.validation:  # owed by an attempt that evaluated
        state.owes_evaluation = False
        return False
    losses = evaluate_all(fabric, state.model, task.validation, decisions.stop_now)
    state.owes_evaluation = losses is None
    if losses is None:
        return False
    is_start = state.step == task.start_step
    check_losses(
        losses,
        step=state.step,
        tolerates=task.skips_nonfinite,
        is_start=is_start,
        report=report,
    )
    log.write(step=state.step, tokens=state.tokens_seen, **losses)
    report(Evaluated(state.step, losses))
    if is_start:
        return False  # Of what the stage was given: no result of it, and never its best.
    state.metrics.update(losses)
    return any([record_best(state.metrics, metric, state.step) for metric in task.best_metrics])


def _stopped(step: int) -> str:
    return f"stopped after step {step:,}; run again to go on from there"


def set_learning_rate(state: TrainingState, rate: float) -> None:
    """Give every parameter group the step's learning rate."""
    state.learning_rate = rate
    for group in state.optimizer.param_groups:
        group["lr"] = rate


def take_step(state: TrainingState, norm: torch.Tensor | None) -> None:
    """The optimizer's step, with gradients that are numbers; else only the loss scale changes.

    Raises:
        DivergedError: the scale is so small that it cannot be what makes the gradients overflow.
    """
    if norm is not None or state.scaler is not None:
        state.optimizer.step()
    state.optimizer.zero_grad()
    if norm is None and state.scaler is not None and state.scaler.get_scale() < MIN_LOSS_SCALE:
        raise DivergedError(
            f"the gradients of step {state.step + 1:,} are no numbers in fp16, however little the "
            "loss is scaled: training has diverged; lower optimizer.lr, lengthen schedule.warmup, "
            "set max_norm, or use precision bf16-mixed or 32-true",
            last_taken=last_taken(state),
        )


def check_before_saving(
    fabric: Fabric,
    state: TrainingState,
    task: Task,
    loss: torch.Tensor,
    norm: torch.Tensor | None,
) -> None:
    """A checkpoint of what is no number would be worse than none, unless the step was left out.

    Raises:
        DivergedError: the loss, the gradients or the weights are none.
    """
    if norm is not None and not task.skips_nonfinite:
        check_finite(loss, task.data, step=state.step)
        check_finite(norm, task.data, step=state.step, name="gradient norm")
    check_weights(fabric, state)


def accumulate_gradients(fabric: Fabric, model: nn.Module, task: Task, step: int) -> torch.Tensor:
    """Backward through all micro-batches of a step; their mean loss, still on the device."""
    data = task.data
    total = torch.zeros((), device=fabric.device)
    for number, (inputs, targets) in enumerate(data.micro_batches(step), start=1):
        inputs, targets = to_device(fabric, inputs, targets)
        waits = task.reduces_once and number < data.num_micro_batches
        with fabric.no_backward_sync(model, enabled=waits):  # type: ignore[arg-type]
            loss = next_token_loss(model, inputs, targets)
            fabric.backward(loss / data.num_micro_batches)
        total += loss.detach()
    return total / data.num_micro_batches


def clip_gradients(fabric: Fabric, state: TrainingState, task: Task) -> torch.Tensor | None:
    """Scale the gradients down to `task.max_norm`; their norm before, None to skip the step.

    Raises:
        DivergedError: they are not finite and the task is to stop then, or was patient for too
            long. In fp16 they overflow now and then: such a step is left out, and the loss scaled
            less from then on.
    """
    max_norm = math.inf if task.max_norm is None else task.max_norm
    norm = fabric.clip_gradients(
        state.model, state.optimizer, max_norm=max_norm, error_if_nonfinite=False
    )
    assert norm is not None, "only a closure of the user's own returns none"
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    if (task.skips_nonfinite or state.scaler is not None) and not math.isfinite(norm.item()):
        note_skipped(state)
        return None
    state.skipped_in_a_row = 0
    if task.checks_every_step and not task.logs_late:
        check_finite(norm, task.data, step=state.step + 1, name="gradient norm")
    return norm


def evaluate_all(
    fabric: Fabric,
    model: nn.Module,
    validation: Mapping[str, ValidationData],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Validation losses in nats a token: `val_loss` of the first split, `val_loss/NAME` of all.

    None when `should_stop` said so before they were known.
    """
    losses: dict[str, float] = {}
    for name, split in validation.items():
        loss = evaluate(fabric, model, split, should_stop)
        if loss is None:
            return None
        losses[name] = loss
    first = next(iter(losses.values()))
    named = {f"val_loss/{name}": loss for name, loss in losses.items()} if len(losses) > 1 else {}
    return {"val_loss": first, **named}


@torch.no_grad()
def evaluate(
    fabric: Fabric,
    model: nn.Module,
    split: ValidationData,
    should_stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Mean loss over the sequences of a split, each counting the same.

    Each batch's loss has a place of its own and all are added in one order, so the sum is the same
    however the batches were shared among processes.

    None when `should_stop` said so before the end.
    """
    model.eval()
    num_rows = split.num_rows
    own = torch.zeros(len(num_rows), device=fabric.device, dtype=torch.float64)
    for batch in split.batches():
        if should_stop():
            model.train()
            return None
        inputs, targets = to_device(fabric, batch.inputs, batch.targets)
        is_full = len(batch.inputs) == split.rows
        with nullcontext() if is_full else eagerly():  # once an evaluation: not worth a graph
            loss = next_token_loss(model, inputs, targets)
        if batch.number is not None:
            own[batch.number] = loss
    model.train()
    losses = fabric.all_reduce(own, reduce_op="sum")  # with zeros: each is of one process
    assert isinstance(losses, torch.Tensor)
    parts = [loss * rows for loss, rows in zip(losses.tolist(), num_rows, strict=True)]
    return math.fsum(parts) / sum(num_rows)
