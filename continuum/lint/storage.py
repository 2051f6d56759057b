"""Rules about checkpoints: W007 they do not fit on the disk, W008 they come too late or not."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from continuum.lint.subject import Finding, Subject, Training
from continuum.plan import Action
from continuum.recipe import intervals_of

LONG_RUN_FLOPS = 1e16
"""Half a minute of the fastest GPU, hours of a CPU: more than one wants to lose."""
FLOPS_PER_PARAMETER_AND_TOKEN = 6
"""Forward and backward pass (Kaplan et al. 2020, section 2.1)."""


def full_disk(subject: Subject) -> Iterator[Finding]:
    """Checkpoints that, with those of the stages before, are more than what is free."""
    free_bytes = _free_bytes(subject.plan.folder.path)
    kept_bytes = 0
    for training in subject.trainings.values():
        size = training.planned.forecast.facts.get("checkpoint_bytes", 0)
        if training.planned.action in (Action.REUSE, Action.CHECK) or not size:
            continue
        num_kept = _num_kept(subject, training)
        if kept_bytes + (num_kept + 1) * size > free_bytes:
            yield Finding(
                training.path("runtime", "checkpoint"),
                f"{num_kept + 1} checkpoints of {_gigabytes(size)} may lie on the disk at once"
                f"{f', besides {_gigabytes(kept_bytes)} of earlier stages' if kept_bytes else ''}, "
                f"and {_gigabytes(free_bytes)} are free",
                "keep fewer (`keep_last`, `keep_every`), or make room",
                at_key=True,
            )
            return
        kept_bytes += num_kept * size


def nothing_to_resume_from(subject: Subject) -> Iterator[Finding]:
    """Retention under which an interruption costs the whole run, or that keeps nothing."""
    for training in subject.trainings.values():
        yield from _late_checkpoints(subject, training)
        yield from _useless_retention(training)


def _late_checkpoints(subject: Subject, training: Training) -> Iterator[Finding]:
    policy, num_steps = training.recipe.runtime.checkpoint, training.num_steps
    facts = training.planned.forecast.facts
    if not num_steps or policy.minutes is not None or facts.get("checkpoints", 2) > 1:
        return
    path = training.path("runtime", "checkpoint", "every")
    is_stated = policy.every is not None and subject.is_written(path)
    if is_stated or _is_long(training):
        when = f"every {policy.every}" if policy.every is not None else "never"
        yield Finding(
            path,
            f"checkpoints come {when}, and the run takes {num_steps:,} steps: until its end there "
            "is nothing to go on from after an interruption",
            "save more often (`every`), or by the clock (`minutes`)",
        )


def _useless_retention(training: Training) -> Iterator[Finding]:
    policy = training.recipe.runtime.checkpoint
    if policy.keep_best is not None and training.recipe.evaluate is None:
        yield Finding(
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
    yield Finding(
        training.path("runtime", "checkpoint", "keep_every"),
        f"checkpoints come every {every:,} steps, and multiples of {keep_every:,} are kept: {kept}",
        f"keep_every: {math.ceil(keep_every / every) * every}",
    )


def _is_long(training: Training) -> bool:
    forecast = training.planned.forecast
    parameters = forecast.architecture.num_parameters() if forecast.architecture else None
    tokens = forecast.facts.get("tokens", 0)
    return FLOPS_PER_PARAMETER_AND_TOKEN * (parameters or 0) * tokens >= LONG_RUN_FLOPS


def _num_kept(subject: Subject, training: Training) -> int:
    """Checkpoints that lie in the stage's folder when it is done."""
    policy = training.recipe.runtime.checkpoint
    written = training.planned.forecast.facts.get("checkpoints", 1)
    selected = subject.selected_steps.get(training.name, ())
    end = training.planned.forecast.num_steps or 0
    keep_every = intervals_of(training.recipe, end).keep_every
    for_good = (training.num_steps or 0) // keep_every if keep_every else 0
    is_best_kept = policy.keep_best is not None
    return min(written, policy.keep_last + for_good + is_best_kept) + len(selected)


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"
