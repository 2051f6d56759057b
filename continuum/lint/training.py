"""Rules about training: W002 warm-up, W005 learning rate, W008 checkpoint retention."""

import math
from collections.abc import Iterator

from continuum.errors import Problem
from continuum.experiment.recipe import ResumeSchedule, intervals_of
from continuum.formatting import plural
from continuum.lint.rules import LintContext, Training, rule

MAX_WARMUP_PERCENT = 10
LONG_RUN_FLOPS = 1e16
"""Half a minute on the fastest GPU, hours on a CPU: too much to lose."""


@rule("W002")
def long_warmups(context: LintContext) -> Iterator[Problem]:
    """Warm-up longer than a tenth of the run.

    A fixed number of warm-up steps for a long run uses up most of a short one, so the model hardly
    trains at the peak learning rate. Set the warm-up as a share of the run.

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
        # A warm-up has at least one step, however short the run.
        if percent > MAX_WARMUP_PERCENT and 1 < steps <= num_steps:
            yield Problem(
                training.path("schedule", "warmup"),
                f"warm-up takes {steps:,} of {plural(num_steps, 'step')} ({percent:.0f}%), which "
                "leaves little of the run at the peak learning rate",
                f"warmup: {MAX_WARMUP_PERCENT // 2}%",
            )


@rule("W005")
def risen_rates(context: LintContext) -> Iterator[Problem]:
    """Learning rate above the peak of the earlier training.

    A higher rate than the earlier peak makes a trained model forget; continued pretraining usually
    warms up to the earlier peak at most (Ibrahim et al. 2024, Simple and Scalable Strategies to
    Continually Pre-train Large Language Models).

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
                        f"{keys[-1]} {rate:g} is above the peak {before:g} of {ref.stage!r}; the "
                        "model may forget what it learned",
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
def ineffective_retention(context: LintContext) -> Iterator[Problem]:
    """Checkpoint settings that keep nothing, or nothing to resume from.

    Without a checkpoint before its end, a long run that is interrupted restarts from the first
    step. `keep_every` only keeps steps with a checkpoint, and `keep_best` only evaluated ones.

    Wrong:
        max_steps: 800
        runtime: {checkpoint: {every: 1000}}
    Right:
        max_steps: 800
        runtime: {checkpoint: {every: 100}}
    """
    for training in context.trainings.values():
        yield from _late_checkpoints(context, training)
        yield from _unused_retention(training)


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
            f"saved {when} in a run of {plural(num_steps, 'step')}: an interrupted run has nothing "
            "to resume from",
            "save more often (`every`), or by time (`minutes`)",
        )


def _unused_retention(training: Training) -> Iterator[Problem]:
    policy = training.recipe.runtime.checkpoint
    if policy.keep_best is not None and training.recipe.evaluate is None:
        yield Problem(
            training.path("runtime", "checkpoint", "keep_best"),
            f"no effect without `evaluate`: no checkpoint has a {policy.keep_best}",
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
        f"saved every {plural(every, 'step')}, kept at multiples of {keep_every:,}: {kept}",
        f"keep_every: {math.ceil(keep_every / every) * every}",
    )
