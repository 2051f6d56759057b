"""What ends a run whose numbers are none any more, before they are saved or published."""

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
"""Of `on_nonfinite: skip`: what so many batches one after the other say is not of the batches."""
MIN_LOSS_SCALE = 1.0
"""Below it "something is likely wrong", as torch's GradScaler documents of `update`."""


class DivergedError(StageFailedError):
    """The loss, its gradients or the weights are no numbers any more."""

    def __init__(self, message: str, *, last_taken: int | None = None) -> None:
        """Say what has diverged.

        Args:
            last_taken: The step before a stretch of skipped ones: what it left gives no finite
                gradients, so only checkpoints of steps before it are good.
        """
        super().__init__(message)
        self.last_taken = last_taken


def check_finite(
    value: torch.Tensor | float, data: TrainingData, *, step: int, name: str = "loss"
) -> float:
    """The number itself, of optimizer step `step`, counted from one; waits for a tensor's.

    Raises:
        DivergedError: it is infinite or NaN.
    """
    number = float(value)
    if not math.isfinite(number):
        samples = ", ".join(f"{d}:{b}" for d, b in data.sample_ids(step - 1)[:SHOWN_SAMPLES])
        raise DivergedError(
            f"the {name} is {number} at step {step:,} (samples {samples} …, as dataset:block): "
            "training has diverged; lower optimizer.lr, lengthen schedule.warmup, set max_norm, "
            "or say on_nonfinite: skip"
        )
    return number


def note_skipped(state: TrainingState) -> None:
    """Count a step that is left out because its gradients are no numbers.

    Raises:
        DivergedError: there were too many in a row to be the samples' fault. In fp16, where the
            loss is scaled less each time, the scale is what tells.
    """
    state.skipped_steps += 1
    state.skipped_in_a_row += 1
    if state.scaler is None and state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        raise DivergedError(
            f"the gradients of {state.skipped_in_a_row} steps in a row, up to step "
            f"{state.step + 1:,}, are no numbers, which is not the samples' fault: training has "
            "diverged; lower optimizer.lr, lengthen schedule.warmup, or set max_norm",
            last_taken=last_taken(state),
        )


def last_taken(state: TrainingState) -> int:
    """The last step that was taken, asked while another is being skipped."""
    return state.step + 1 - state.skipped_in_a_row


def check_weights(fabric: Fabric, state: TrainingState) -> None:
    """A checkpoint of weights that are no numbers would be worse than none.

    A finite loss says nothing of them: it was computed before they changed.

    Raises:
        DivergedError: some are infinite or NaN.
    """
    if not has_finite_weights(fabric, state.model):
        raise DivergedError(
            f"weights are no numbers after step {state.step:,}: training has diverged, and no "
            "later step can mend it; lower optimizer.lr, or look at optimizer.eps and precision"
        )


def has_finite_weights(fabric: Fabric, model: nn.Module) -> bool:
    """Whether every parameter is finite, on every process; collective, one wait for the device."""
    own = [p.to_local() if isinstance(p, DTensor) else p.detach() for p in model.parameters()]
    # Least and most show NaN too, and cost a CPU a thirtieth of the largest norm.
    extremes = [it.float() for part in own if part.numel() for it in part.detach().aminmax()]
    num_bad = torch.zeros((), device=fabric.device)  # of a rank without any part
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
    """Tell of validation losses that are no numbers.

    Args:
        is_start: Whether nothing was trained yet.
        tolerates: Whether a warning is enough (`on_nonfinite: skip`).

    Raises:
        DivergedError: there is one.
    """
    wrong = [f"{name} is {loss}" for name, loss in losses.items() if not math.isfinite(loss)]
    if not wrong:
        return
    what = "the weights that it begins with are at fault" if is_start else "training has diverged"
    message = f"{', '.join(wrong)} at step {step:,}: {what}"
    if not tolerates:
        advice = "look at `from`" if is_start else "lower optimizer.lr, or lengthen schedule.warmup"
        raise DivergedError(f"{message}; {advice}")
    report(Warned(message))
