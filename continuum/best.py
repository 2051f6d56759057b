"""The best step so far, noted among a run's metrics.

Two numbers beside the losses (`best/val_loss`, `best_step/val_loss`) are part of the training
state, of each checkpoint's manifest and of the artifact. So recovery, retention and the selector
`@best` all read the same answer, and none of them compares losses of other steps again: a
checkpoint between two evaluations still shows the loss of the one before.
"""

import math
from collections.abc import Mapping

_VALUE, _STEP = "best/", "best_step/"


def note_best(metrics: dict[str, float], metric: str, step: int) -> bool:
    """Note this step if its `metric` is finite and below all before; whether it is.

    Of equal values the earliest stays the best.
    """
    value = metrics[metric]
    if not math.isfinite(value) or value >= metrics.get(_VALUE + metric, math.inf):
        return False
    metrics |= {_VALUE + metric: value, _STEP + metric: float(step)}
    return True


def best_step(metrics: Mapping[str, float], metric: str) -> int | None:
    """The step noted as the best by this metric; None when there was none."""
    step = metrics.get(_STEP + metric)
    return None if step is None else int(step)


def without_notes(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics alone: what was best in a parent says nothing of a stage that goes on from it."""
    return {k: v for k, v in metrics.items() if not k.startswith((_VALUE, _STEP))}
