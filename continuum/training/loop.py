"""The training loop: forward, backward, clip, step, log, evaluate, save, once per optimizer step.

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
    count_skipped,
    last_taken,
)
from continuum.training.metrics import MetricsLog, StepLog
from continuum.training.model import eagerly, next_token_loss
from continuum.training.rank_sync import Decisions, check_ranks_agree
from continuum.training.schedule import LearningRate
from continuum.training.state import TrainingState
from continuum.training.throughput import Clock


@dataclass(frozen=True)
class Task:
    """What `fit` does, fixed for the entire run."""

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
    """Validation splits by dataset, evaluated separately; the first is `val_loss`."""
    evaluate_final: bool
    start_step: int = 0
    """The step that the stage starts from, of which it saves no checkpoint."""
    checkpoint_minutes: float | None = None
    skips_nonfinite: bool = False
    """Whether to skip a step whose gradients are NaN or inf instead of failing."""
    best_metrics: tuple[str, ...] = ()
    """Validation losses whose best step is recorded and saved."""
    logs_late: bool = False
    """Whether to read a step's numbers after launching the next step, so that a GPU never idles."""
    reduces_once: bool = True
    """Whether processes all-reduce gradients once a step, not once a micro-batch."""
    most_tokens_per_s: float | None = None
    """What all devices could train on at their peak rate; None if unknown."""

    @property
    def checks_every_step(self) -> bool:
        """Whether a NaN or inf norm ends the run: free to check where each norm is logged."""
        return self.log_every == 1 and not self.skips_nonfinite

    def evaluates_at(self, step: int) -> bool:
        is_final = self.evaluate_final and step == self.num_steps
        return is_final or _is_due(step, self.evaluate_every)

    def saves_at(self, step: int) -> bool:
        is_wanted = step in self.save_steps or step == self.num_steps
        return is_wanted or _is_due(step, self.checkpoint_every)


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
        StoppedError: `should_stop` returned True; the state of the last step is saved.
        DivergedError: the loss, gradients or weights are NaN or inf; they are not saved.
    """
    clock = Clock(
        step=state.step,
        num_steps=task.num_steps,
        tokens_per_step=task.tokens_per_step,
        most_tokens_per_s=task.most_tokens_per_s,
    )
    decisions = Decisions(fabric, should_stop, task.checkpoint_minutes)
    first_step = state.step + 1
    if state.evaluation_pending:
        with clock.paused():
            is_best = _evaluate(fabric, state, task, decisions, log=log, report=report)
        if state.evaluation_pending:
            raise StoppedError(_stopped(state.step))
        # Save this step again where it is kept: the checkpoint on disk lacks its evaluation.
        if state.step > task.start_step and (is_best or task.saves_at(state.step)):
            save(state)
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

            rows.write()  # the previous step's, if pending
            if state.step % task.log_every == 0 or state.step == task.num_steps:
                rows.add(loss, norm)

            is_best = False
            if task.validation and task.evaluates_at(state.step):
                rows.write()
                with clock.paused():
                    is_best = _evaluate(fabric, state, task, decisions, log=log, report=report)

            due = decisions.after()
            stop = state.evaluation_pending or (due.stop and state.step < task.num_steps)
            if task.saves_at(state.step) or due.save or is_best or stop:
                rows.write()
                with clock.paused():
                    check_before_saving(fabric, state, task, loss, norm)
                    save(state)
                decisions.has_saved()
            if stop:
                raise StoppedError(_stopped(state.step))


def _evaluate(
    fabric: Fabric,
    state: TrainingState,
    task: Task,
    decisions: Decisions,
    *,
    log: MetricsLog,
    report: Report,
) -> bool:
    """Evaluate after a step, or mark the evaluation as pending if the run must stop.

    Returns:
        Whether the step is the best so far by any tracked metric.
    """
    if not task.validation:  # pending from an attempt that evaluated
        state.evaluation_pending = False
        return False
    losses = evaluate_all(fabric, state.model, task.validation, decisions.stop_now)
    state.evaluation_pending = losses is None
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
        return False  # measures what the stage started from, so it is never the best
    state.metrics.update(losses)
    return any([record_best(state.metrics, metric, state.step) for metric in task.best_metrics])


def _stopped(step: int) -> str:
    return f"stopped after step {step:,}; run again to resume"


def set_learning_rate(state: TrainingState, rate: float) -> None:
    """Set the step's learning rate in every parameter group."""
    state.learning_rate = rate
    for group in state.optimizer.param_groups:
        group["lr"] = rate


def take_step(state: TrainingState, norm: torch.Tensor | None) -> None:
    """Step the optimizer; if the gradients are not finite, only update the loss scale.

    Args:
        norm: Of the gradients; None to skip the step.

    Raises:
        DivergedError: the scale is too small to be what makes the gradients overflow.
    """
    if norm is not None or state.scaler is not None:
        state.optimizer.step()
    state.optimizer.zero_grad()
    if norm is None and state.scaler is not None and state.scaler.get_scale() < MIN_LOSS_SCALE:
        raise DivergedError(
            f"the gradients of step {state.step + 1:,} are NaN or inf in fp16 even at a loss scale "
            f"below {MIN_LOSS_SCALE:g}: training has diverged; lower optimizer.lr, lengthen "
            "schedule.warmup, set max_norm, or use precision bf16-mixed or 32-true",
            last_taken=last_taken(state),
        )


def check_before_saving(
    fabric: Fabric,
    state: TrainingState,
    task: Task,
    loss: torch.Tensor,
    norm: torch.Tensor | None,
) -> None:
    """Refuse to save a diverged state: such a checkpoint would be worse than none.

    Raises:
        DivergedError: the weights, or the loss or gradients of a taken step, are NaN or inf.
    """
    if norm is not None and not task.skips_nonfinite:
        check_finite(loss, task.data, step=state.step)
        check_finite(norm, task.data, step=state.step, name="gradient norm")
    check_weights(fabric, state)


def accumulate_gradients(fabric: Fabric, model: nn.Module, task: Task, step: int) -> torch.Tensor:
    """Run backward for all micro-batches of a step; return their mean loss, on the device."""
    data = task.data
    total = torch.zeros((), device=fabric.device)
    for number, (inputs, targets) in enumerate(data.micro_batches(step), start=1):
        inputs, targets = to_device(fabric, inputs, targets)
        accumulates = task.reduces_once and number < data.num_micro_batches
        with fabric.no_backward_sync(model, enabled=accumulates):  # type: ignore[arg-type]
            loss = next_token_loss(model, inputs, targets)
            fabric.backward(loss / data.num_micro_batches)
        total += loss.detach()
    return total / data.num_micro_batches


def clip_gradients(fabric: Fabric, state: TrainingState, task: Task) -> torch.Tensor | None:
    """Clip the gradients to `task.max_norm`; return their norm, or None to skip the step.

    In fp16 gradients overflow now and then: such a step is skipped and the loss scale reduced.

    Raises:
        DivergedError: the gradients are NaN or inf and the task must not skip the step, or too
            many steps in a row were skipped.
    """
    max_norm = math.inf if task.max_norm is None else task.max_norm
    norm = fabric.clip_gradients(
        state.model, state.optimizer, max_norm=max_norm, error_if_nonfinite=False
    )
    assert norm is not None, "only a user-defined clipping function returns None"
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    if (task.skips_nonfinite or state.scaler is not None) and not math.isfinite(norm.item()):
        count_skipped(state)
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
    """Validation losses in nats per token: `val_loss` of the first split, `val_loss/NAME` of all.

    None if `should_stop` interrupted the evaluation.
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
    """Mean loss over the sequences of a split, equally weighted.

    The losses of all batches are added in a fixed order, so the sum does not depend on how the
    batches are distributed over processes.

    None if `should_stop` interrupted the evaluation.
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
        with nullcontext() if is_full else eagerly():  # once per evaluation: not worth a graph
            loss = next_token_loss(model, inputs, targets)
        if batch.number is not None:
            own[batch.number] = loss
    model.train()
    losses = fabric.all_reduce(own, reduce_op="sum")  # one process has each loss, the others 0
    assert isinstance(losses, torch.Tensor)
    parts = [loss * rows for loss, rows in zip(losses.tolist(), num_rows, strict=True)]
    return math.fsum(parts) / sum(num_rows)
