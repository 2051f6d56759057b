"""Detect NaN and inf in losses, gradients and weights before they are saved or published."""

import math
from collections.abc import Mapping

import torch
from lightning import Fabric
from torch import nn
from torch.distributed.tensor import DTensor

from continuum.errors import StageFailedError
from continuum.runs.events import Report, Warned
from continuum.training.data import TrainingData
from continuum.training.state import TrainingState

SHOWN_SAMPLES = 8
MAX_SKIPPED_IN_A_ROW = 10
"""With `on_nonfinite: skip`: more skipped steps in a row are not the fault of single batches."""
MIN_LOSS_SCALE = 1.0
"""Below this "something is likely wrong", says the documentation of torch's GradScaler."""


class DivergedError(StageFailedError):
    """The loss, its gradients or the weights are NaN or inf."""

    def __init__(self, message: str, *, last_taken: int | None = None) -> None:
        """Describe what has diverged.

        Args:
            last_taken: The last step before a series of skipped ones. The state after it yields no
                finite gradients, so only checkpoints of earlier steps are good.
        """
        super().__init__(message)
        self.last_taken = last_taken


def check_finite(
    value: torch.Tensor | float, data: TrainingData, *, step: int, name: str = "loss"
) -> float:
    """Return the value as a number; a tensor on a device is waited for.

    Args:
        step: The optimizer step, counted from one.

    Raises:
        DivergedError: it is NaN or inf.
    """
    number = float(value)
    if not math.isfinite(number):
        samples = ", ".join(f"{d}:{b}" for d, b in data.sample_ids(step - 1)[:SHOWN_SAMPLES])
        raise DivergedError(
            f"the {name} is {number} at step {step:,} (samples {samples} …, as dataset:block): "
            "training has diverged; lower optimizer.lr, lengthen schedule.warmup, set max_norm, "
            "or set on_nonfinite: skip"
        )
    return number


def count_skipped(state: TrainingState) -> None:
    """Count a step that is skipped because its gradients are NaN or inf.

    Raises:
        DivergedError: too many steps in a row were skipped. In fp16 each skip reduces the loss
            scale, and `take_step` checks that instead.
    """
    state.skipped_steps += 1
    state.skipped_in_a_row += 1
    if state.scaler is None and state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        raise DivergedError(
            f"the gradients of {state.skipped_in_a_row} steps in a row, up to step "
            f"{state.step + 1:,}, are NaN or inf: training has diverged; lower optimizer.lr, "
            "lengthen schedule.warmup, or set max_norm",
            last_taken=last_taken(state),
        )


def last_taken(state: TrainingState) -> int:
    """The last step that was taken, as long as the current one is being skipped."""
    return state.step + 1 - state.skipped_in_a_row


def check_weights(fabric: Fabric, state: TrainingState) -> None:
    """Check that all weights are finite; the loss was computed before their last update.

    Raises:
        DivergedError: some are NaN or inf.
    """
    if not has_finite_weights(fabric, state.model):
        raise DivergedError(
            f"weights are NaN or inf after step {state.step:,}: training has diverged and cannot "
            "recover; lower optimizer.lr, or check optimizer.eps and precision"
        )


def has_finite_weights(fabric: Fabric, model: nn.Module) -> bool:
    """Whether every parameter is finite, on every process; collective, one device sync."""
    own = [p.to_local() if isinstance(p, DTensor) else p.detach() for p in model.parameters()]
    # aminmax propagates NaN, and costs a CPU a thirtieth of an infinity norm.
    extremes = [it.float() for part in own if part.numel() for it in part.detach().aminmax()]
    num_bad = torch.zeros((), device=fabric.device)  # also of a rank without any shard
    if extremes:
        num_bad += torch.stack(extremes).isfinite().logical_not().sum()
    total = fabric.all_reduce(num_bad, reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return total.item() == 0


def check_losses(
    losses: Mapping[str, float],
    *,
    step: int,
    tolerates: bool,
    is_start: bool,
    report: Report,
) -> None:
    """Check that validation losses are finite.

    Args:
        tolerates: Whether to warn instead of failing (`on_nonfinite: skip`).
        is_start: Whether nothing was trained yet.

    Raises:
        DivergedError: one is NaN or inf.
    """
    wrong = [f"{name} is {loss}" for name, loss in losses.items() if not math.isfinite(loss)]
    if not wrong:
        return
    what = "the initial weights are broken" if is_start else "training has diverged"
    message = f"{', '.join(wrong)} at step {step:,}: {what}"
    if not tolerates:
        advice = "check `from`" if is_start else "lower optimizer.lr, or lengthen schedule.warmup"
        raise DivergedError(f"{message}; {advice}")
    report(Warned(message))
