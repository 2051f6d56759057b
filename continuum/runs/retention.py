"""Which checkpoints are kept: one rule for training, the forecast and lint."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from continuum.runs.artifacts import TrainingCheckpoint, best_step


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a run are kept."""

    keep_last: int = 2
    keep_steps: frozenset[int] = frozenset()
    keep_every: int | None = None
    """Keep multiples of this step."""
    keep_best: str | None = None
    """Keep the checkpoint with the lowest value of this metric."""
    best_metrics: tuple[str, ...] = ()
    """Keep the best step by each of these metrics, which the training records."""

    def keeps(self, steps: Sequence[int]) -> set[int]:
        """The saved steps, in order, that are kept whatever their metrics are."""
        for_good = {step for step in steps if self.keep_every and step % self.keep_every == 0}
        return for_good | self.keep_steps.intersection(steps) | set(steps[-self.keep_last :])

    def keeps_of(self, saved: Sequence[TrainingCheckpoint]) -> set[int]:
        """The steps to keep of checkpoints in the order of their steps."""
        recorded = {
            best_step(checkpoint.metrics, metric)  # a recovery may start from any of the last ones
            for checkpoint in saved[-self.keep_last :]
            for metric in self.best_metrics
        }
        steps = [checkpoint.step for checkpoint in saved]
        measured = recorded | {self._best(saved), _last_good(saved)}
        return self.keeps(steps) | {step for step in steps if step in measured}

    def _best(self, saved: Iterable[TrainingCheckpoint]) -> int | None:
        """The step of the lowest value, if the training does not record it."""
        if self.keep_best is None or self.keep_best in self.best_metrics:
            return None
        rated = [(c.metrics[self.keep_best], c.step) for c in saved if self.keep_best in c.metrics]
        return min(rated)[1] if rated else None


def last_good(steps: Iterable[int], last_taken: int) -> int | None:
    """The newest saved step whose weights gave finite gradients; None if there is none.

    Args:
        last_taken: The last step that was not skipped. It may have caused the divergence, so its
            own checkpoint does not count.
    """
    return max((step for step in steps if step < last_taken), default=None)


def _last_good(saved: Sequence[TrainingCheckpoint]) -> int | None:
    """While steps are skipped, the newest checkpoint to go back to."""
    if not saved or not saved[-1].skipped_in_a_row:
        return None
    newest = saved[-1]
    return last_good((c.step for c in saved), newest.step - newest.skipped_in_a_row)
