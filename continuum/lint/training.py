"""Rules about the course of the training: W002, W005, W009."""

from collections.abc import Iterator

from continuum.lint.subject import Finding, Subject, Training
from continuum.recipe import ResumeSchedule

MAX_WARMUP_PERCENT = 10


def long_warmups(subject: Subject) -> Iterator[Finding]:
    """A warm-up longer than a tenth of the stage's own steps."""
    for training in subject.trainings.values():
        warmup, num_steps = training.recipe.schedule.warmup, training.num_steps
        if warmup is None or not num_steps:
            continue
        steps = warmup.in_steps(num_steps, training.recipe.tokens_per_step)
        percent = warmup.percent if warmup.percent is not None else 100 * steps / num_steps
        # One step is the least there is, however short the run.
        if percent > MAX_WARMUP_PERCENT and 1 < steps <= num_steps:
            yield Finding(
                training.path("schedule", "warmup"),
                f"the warm-up is {steps:,} of {num_steps:,} steps ({percent:.0f}%): the peak "
                "learning rate is held for little of the run",
                f"warmup: {MAX_WARMUP_PERCENT // 2}%",
            )


def risen_rates(subject: Subject) -> Iterator[Finding]:
    """A learning rate above the peak that the parent was trained with."""
    for training in subject.trainings.values():
        for ref in subject.parents(training.name):
            before = subject.plan.stages[ref.stage].forecast.peak_lr
            if before is None:
                continue
            for keys, rate in _rates(training):
                if rate > before:
                    yield Finding(
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


def idle_resumes(subject: Subject) -> Iterator[Finding]:
    """A `resume` whose total is no more than what its parent has taken."""
    for training in subject.trainings.values():
        if not isinstance(training.recipe.schedule, ResumeSchedule):
            continue
        for ref in subject.parents(training.name):
            parent = subject.trainings.get(ref.stage)
            if parent is not None and _is_idle(training, parent, ref.step):
                yield Finding(
                    training.path(training.recipe.budget.partition(" ")[0]),
                    f"{training.recipe.budget} is a total that counts {str(ref)!r} too, which has "
                    "already trained that much: nothing would change",
                    "state a larger total",
                )


def _is_idle(training: Training, parent: Training, step: int | None) -> bool:
    if training.num_steps is not None:
        return training.num_steps <= 0
    ends = training.recipe.epochs, parent.recipe.epochs
    return step is None and None not in ends and ends[0] <= ends[1]  # type: ignore[operator]
