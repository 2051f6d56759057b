"""The learning rate as a pure function of the tokens seen, so it is not part of the state."""

import math
from dataclasses import dataclass

from continuum.experiment.amounts import rate_of
from continuum.experiment.recipe import Recipe, ResumeSchedule, intervals_of


@dataclass(frozen=True)
class LearningRate:
    """A warm-up from `start_lr` to `peak_lr`, then a shape down to `final_lr`.

    All positions are tokens seen by the stage; beyond the end the rate is final. The first step of
    a warm-up is one step above `start_lr`, and the last step of a decay one step above `final_lr`,
    so that no step has a rate of zero.
    """

    kind: str
    start_tokens: int
    end_tokens: int
    warmup_tokens: int
    decay_tokens: int
    tokens_per_step: int
    start_lr: float
    peak_lr: float
    final_lr: float

    def at(self, tokens: int) -> float:
        """The rate for the optimizer step after `tokens` tokens.

        With a cosine this is LitGPT's `get_lr` (linear warm-up, half a cosine down) for iteration
        n + 1 of a warm-up of w + 1, counted in tokens: LitGPT's first iteration has rate 0.
        """
        elapsed = tokens - self.start_tokens
        if elapsed < self.warmup_tokens:
            share = (elapsed + self.tokens_per_step) / (self.warmup_tokens + self.tokens_per_step)
            return self.start_lr + (self.peak_lr - self.start_lr) * share
        if self.kind == "inverse_sqrt":
            # Without a warm-up the first step is the scale, as in fairseq.
            scale = max(self.warmup_tokens, self.tokens_per_step) / max(elapsed, 1)
            return max(self.final_lr, self.peak_lr * math.sqrt(min(1.0, scale)))
        if tokens > self.end_tokens:
            return self.final_lr
        return self.final_lr + (self.peak_lr - self.final_lr) * self._remaining(elapsed)

    @property
    def is_zero(self) -> bool:
        """Whether every step has a rate of zero."""
        return not self.peak_lr and not self.final_lr

    def _remaining(self, elapsed: int) -> float:
        """The share of the distance from final to peak rate: 1 at the end of the warm-up."""
        length = self.end_tokens - self.start_tokens
        begin = length - self.decay_tokens if self.kind == "wsd" else self.warmup_tokens
        ratio = (elapsed - begin) / max(1, length - begin)
        if self.kind == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * ratio))
        return min(1.0, 1.0 - ratio)


def learning_rate(
    recipe: Recipe, num_steps: int, *, start_step: int = 0, start_lr: float = 0.0
) -> LearningRate:
    """The schedule of a run from `start_step` to `num_steps`.

    Args:
        recipe: Its `schedule` is a `ResumeSchedule` if the run extends another.
        num_steps: The last optimizer step, including the parent's steps.
        start_step: The parent's last step.
        start_lr: The parent's last learning rate; zero for a new run.
    """
    per_step, schedule = recipe.tokens_per_step, recipe.schedule
    length = num_steps - start_step
    if isinstance(schedule, ResumeSchedule):
        peak = start_lr if schedule.peak is None else schedule.peak
        final = peak if schedule.to is None else schedule.to
        decay_steps = 0
    else:
        peak = recipe.optimizer.lr
        final = peak if schedule.kind == "constant" else rate_of(schedule.min_lr, peak)
        decay_steps = schedule.decay.in_steps(length, per_step) if schedule.decay else 0
    return LearningRate(
        kind=schedule.kind,
        start_tokens=start_step * per_step,
        end_tokens=num_steps * per_step,
        warmup_tokens=intervals_of(recipe, length).warmup_steps * per_step,
        decay_tokens=decay_steps * per_step,
        tokens_per_step=per_step,
        start_lr=start_lr,
        peak_lr=peak,
        final_lr=final,
    )
