"""Which checkpoints stay on the disk: one rule for training, for the forecast and for lint."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from continuum.runs.artifacts import TrainingCheckpoint, best_step


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a run stay."""

    keep_last: int = 2
    keep_steps: frozenset[int] = frozenset()
    """Those that other stages select."""
    keep_every: int | None = None
    """Those at multiples of this step."""
    keep_best: str | None = None
    """The one with the lowest value of this metric."""
    best_metrics: tuple[str, ...] = ()
    """Metrics whose best step training records: the checkpoints of those steps."""

    def keeps(self, steps: Sequence[int]) -> set[int]:
        """Those of the saved steps, in their order, that stay whatever was measured at them."""
        for_good = {step for step in steps if self.keep_every and step % self.keep_every == 0}
        return for_good | self.keep_steps.intersection(steps) | set(steps[-self.keep_last :])

    def keeps_of(self, saved: Sequence[TrainingCheckpoint]) -> set[int]:
        """The steps that stay, of checkpoints in the order of their steps."""
        recorded = {
            best_step(checkpoint.metrics, metric)  # a recovery may begin from any of the last ones
            for checkpoint in saved[-self.keep_last :]
            for metric in self.best_metrics
        }
        steps = [checkpoint.step for checkpoint in saved]
        measured = recorded | {self._best(saved), _last_good(saved)}
        return self.keeps(steps) | {step for step in steps if step in measured}

    def _best(self, saved: Iterable[TrainingCheckpoint]) -> int | None:
        """The step of the lowest value, where training does not record it."""
        if self.keep_best is None or self.keep_best in self.best_metrics:
            return None
        rated = [(c.metrics[self.keep_best], c.step) for c in saved if self.keep_best in c.metrics]
        return min(rated)[1] if rated else None


def last_good(steps: Iterable[int], last_taken: int) -> int | None:
    """The newest of the saved steps whose weights gave finite gradients, None when none did.

    Args:
        last_taken: The step after which every one was skipped. It may be what went wrong, so its
            own checkpoint is no better than one saved during the skipped stretch.
    """
    return max((step for step in steps if step < last_taken), default=None)


def _last_good(saved: Sequence[TrainingCheckpoint]) -> int | None:
    """While steps are skipped, the newest from before they were: it is what to go back to."""
    if not saved or not saved[-1].skipped_in_a_row:
        return None
    newest = saved[-1]
    return last_good((c.step for c in saved), newest.step - newest.skipped_in_a_row)
