"""The best step so far, noted among a run's metrics.

Two numbers beside the losses (`best/val_loss`, `best_step/val_loss`) are part of the training
state, of each checkpoint's manifest and of the artifact. So recovery, retention and the selector
`@best` all read the same answer, and none of them compares losses of other steps again: a
checkpoint between two evaluations still shows the loss of the one before. Where nobody had asked
for the best yet, the rows of metrics.jsonl say which step it was.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

_VALUE, _STEP = "best/", "best_step/"


def note_best(metrics: dict[str, float], metric: str, step: int) -> bool:
    """Note this step if its `metric` is finite and below all before; whether it is.

    Of equal values the earliest stays the best.
    """
    value = metrics[metric]
    if not math.isfinite(value) or value >= metrics.get(_VALUE + metric, math.inf):
        return False
    note_as_best(metrics, metric, value, step)
    return True


def note_as_best(metrics: dict[str, float], metric: str, value: float, step: int) -> None:
    """Note what is known to be the best."""
    metrics |= {_VALUE + metric: value, _STEP + metric: float(step)}


def best_of(rows: Iterable[Mapping[str, Any]], metric: str) -> tuple[float, int] | None:
    """The lowest value among the rows of metrics.jsonl, and its step: the answer without a note.

    An evaluation before the first step is of what the stage began from.
    """
    rated = [(row[metric], row["step"]) for row in rows if row.get(metric) is not None]
    return min((it for it in rated if it[1] > 0), default=None)


def best_step(metrics: Mapping[str, float], metric: str) -> int | None:
    """The step noted as the best by this metric; None when there was none."""
    step = metrics.get(_STEP + metric)
    return None if step is None else int(step)
