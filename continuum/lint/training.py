"""Rules about the course of a training: W002 warm-up, W005 learning rate, W008 retention."""

import math
from collections.abc import Iterator

from continuum.experiment.recipe import ResumeSchedule, intervals_of
from continuum.lint.rules import LintContext, Training, rule
from continuum.problems import Problem

MAX_WARMUP_PERCENT = 10
LONG_RUN_FLOPS = 1e16
"""Half a minute of the fastest GPU, hours of a CPU: more than one wants to lose."""


@rule("W002")
def long_warmups(context: LintContext) -> Iterator[Problem]:
    """The warm-up takes more than a tenth of the run.

    A fixed number of warm-up steps that suits a long run eats a short one: the model is hardly ever
    trained at the rate that was chosen. Write the warm-up as a share.

    Wrong:
        max_steps: 500
        schedule: {kind: cosine, warmup: 200}
    Right:
        max_steps: 500
        schedule: {kind: cosine, warmup: 5%}
    """
    for training in context.trainings.values():
        warmup, num_steps = training.recipe.schedule.warmup, training.num_steps
        if warmup is None or not num_steps:
            continue
        steps = warmup.in_steps(num_steps, training.recipe.tokens_per_step)
        percent = warmup.percent if warmup.percent is not None else 100 * steps / num_steps
        # One step is the least there is, however short the run.
        if percent > MAX_WARMUP_PERCENT and 1 < steps <= num_steps:
            yield Problem(
                training.path("schedule", "warmup"),
                f"the warm-up is {steps:,} of {num_steps:,} steps ({percent:.0f}%): the peak "
                "learning rate is held for little of the run",
                f"warmup: {MAX_WARMUP_PERCENT // 2}%",
            )


@rule("W005")
def risen_rates(context: LintContext) -> Iterator[Problem]:
    """The learning rate is above the peak the model was trained with.

    A rate above the former peak tears a trained model out of where it settled; continued
    pretraining usually warms up to the former peak at most (Ibrahim et al. 2024, Simple and
    Scalable Strategies to Continually Pre-train Large Language Models).

    Wrong:
        pretrain: {kind: pretrain, optimizer: {lr: 6e-4}, …}
        retrain: {kind: retrain, from: pretrain, optimizer: {lr: 1e-3}, …}
    Right:
        pretrain: {kind: pretrain, optimizer: {lr: 6e-4}, …}
        retrain: {kind: retrain, from: pretrain, optimizer: {lr: 1.5e-4}, …}
    """
    for training in context.trainings.values():
        for ref in context.parents(training.name):
            before = context.plan.stages[ref.stage].forecast.peak_lr
            for keys, rate in _rates(training):
                if before is not None and rate > before:
                    yield Problem(
                        training.path(*keys),
                        f"{keys[-1]} {rate:g} is above the {before:g} that {ref.stage!r} was "
                        "trained with: the model may forget what it knows",
                    )


def _rates(training: Training) -> Iterator[tuple[tuple[str, str], float]]:
    schedule = training.recipe.schedule
    if not isinstance(schedule, ResumeSchedule):
        yield ("optimizer", "lr"), training.recipe.optimizer.lr
        if isinstance(schedule.min_lr, float):
            yield ("schedule", "min_lr"), schedule.min_lr
        return
    for name in ("peak", "to"):
        rate = getattr(schedule, name)
        if rate is not None:
            yield ("schedule", name), rate


@rule("W008")
def useless_retention(context: LintContext) -> Iterator[Problem]:
    """Retention leaves nothing to resume from, or keeps nothing.

    Without a checkpoint before its end, a long run that is interrupted starts over. `keep_every`
    keeps only steps at which a checkpoint was due, and `keep_best` only those that were evaluated.

    Wrong:
        max_steps: 800
        runtime: {checkpoint: {every: 1000}}
    Right:
        max_steps: 800
        runtime: {checkpoint: {every: 100}}
    """
    for training in context.trainings.values():
        yield from _late_checkpoints(context, training)
        yield from _kept_for_nothing(training)


def _late_checkpoints(context: LintContext, training: Training) -> Iterator[Problem]:
    policy, num_steps = training.recipe.runtime.checkpoint, training.num_steps
    facts = training.planned.forecast.facts
    if not num_steps or policy.minutes is not None or facts.get("checkpoints", 2) > 1:
        return
    path = training.path("runtime", "checkpoint", "every")
    is_stated = policy.every is not None and context.is_written(path)
    if is_stated or facts.get("flops", 0) >= LONG_RUN_FLOPS:
        when = f"every {policy.every}" if policy.every is not None else "never"
        yield Problem(
            path,
            f"checkpoints come {when}, and the run takes {num_steps:,} steps: until its end there "
            "is nothing to resume from after an interruption",
            "save more often (`every`), or by the clock (`minutes`)",
        )


def _kept_for_nothing(training: Training) -> Iterator[Problem]:
    policy = training.recipe.runtime.checkpoint
    if policy.keep_best is not None and training.recipe.evaluate is None:
        yield Problem(
            training.path("runtime", "checkpoint", "keep_best"),
            f"nothing is evaluated, so no checkpoint has a {policy.keep_best} to be kept for",
        )
    end = training.planned.forecast.num_steps
    if not end:
        return
    intervals = intervals_of(training.recipe, end)
    every, keep_every = intervals.checkpoint_every, intervals.keep_every
    if every is None or keep_every is None or keep_every % every == 0 or policy.minutes:
        return
    common = math.lcm(every, keep_every)
    kept = f"only every {common:,}th step is kept" if common <= end else "none is kept"
    yield Problem(
        training.path("runtime", "checkpoint", "keep_every"),
        f"checkpoints come every {every:,} steps, and multiples of {keep_every:,} are kept: {kept}",
        f"keep_every: {math.ceil(keep_every / every) * every}",
    )
