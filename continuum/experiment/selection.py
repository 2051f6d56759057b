"""Selects checkpoints of a stage for references such as `@best` and `@step-500`.

Which checkpoint is best depends on when and on how much the stage evaluates. So `evaluate`, which
otherwise only observes, is part of the identity of a stage that selects `@best`. The selection uses
the recorded evaluations and saved checkpoints; nothing is trained again for it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from continuum.errors import Problem
from continuum.experiment.fields import Ref, Spec
from continuum.experiment.forecast import Forecast
from continuum.experiment.recipe import (
    Recipe,
    evaluated_datasets,
    evaluation_identity,
    intervals_of,
    validation_metrics,
)
from continuum.formatting import plural
from continuum.runs.artifacts import Artifact, Checkpoint, TrainingCheckpoint, best_of, best_step
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord
from continuum.suggestions import did_you_mean


def as_recorded(
    ref: Ref[Any], record: StageRecord | None, fingerprints: Mapping[str, str]
) -> Ref[Any]:
    """The reference with the name of the metric's dataset at the time of the selected run.

    Args:
        record: The record of the selected run.
        fingerprints: Fingerprints by the current names of stages.
    """
    metric, _, dataset = (ref.metric or "").partition("/")
    if not dataset or record is None:
        return ref
    used = record.input(dataset, fingerprints.get(dataset, ""))
    if used is None or used.ref == dataset:
        return ref
    found: Ref[Any] = type(ref)(f"{ref.stage}@best:{metric}/{used.ref}")
    found.expects = ref.expects
    return found


def select(
    made: Artifact,
    ref: Ref[Any],
    run: StageRun,
    record: StageRecord | None,
    fingerprints: Mapping[str, str],
) -> Artifact | str:
    """The artifact that a reference selects from a finished stage, or why it is missing.

    Args:
        run: The run of the selected stage, as `record`; see `as_recorded`.
    """
    recorded = as_recorded(ref, record, fingerprints)
    chosen = select_from(run, recorded)
    return why_gone(recorded, made, run) if chosen is None else chosen


def select_from(run: StageRun, ref: Ref[Any]) -> Artifact | None:
    """The artifact that a reference selects from a finished run: its result or a checkpoint.

    None if the step does not exist, or the metric was never finite.

    Raises:
        IntegrityError: `artifact.json`, or a line of metrics.jsonl, is corrupt.
    """
    made = run.artifact()
    if not isinstance(made, Checkpoint) or (ref.step is None and ref.metric is None):
        return made
    step = selected_step(run, ref)
    return next((c for c in run.checkpoints() if c.step == step), None)


def selected_step(run: StageRun, ref: Ref[Any]) -> int | None:
    """The step that a reference selects from a finished run: the stated one, or the best.

    A run that did not record the best step still has its evaluations.
    """
    made = run.artifact()
    if ref.metric is None or not isinstance(made, TrainingCheckpoint):
        return ref.step
    recorded = best_step(made.metrics, ref.metric)
    if recorded is not None:
        return recorded
    best = best_of(run.metrics(), ref.metric)
    return None if best is None else best[1]


def best_problems_of(
    ref: Ref[Any], recipe: Spec | None, forecast: Forecast, run: str, record: StageRecord | None
) -> Iterator[Problem]:
    """Errors of `@best`: the selected stage has no best checkpoint, or a different one.

    Args:
        recipe: The recipe of the selected stage, as `forecast` and the run folder's name.
        record: The record of the run that is reused; None if it is rebuilt.
    """
    if ref.metric is None or not isinstance(recipe, Recipe):
        return
    yield from best_problems(ref, ref.metric, recipe, forecast.num_steps)
    try:
        before = Recipe.model_validate(record.recipe, strict=False) if record else recipe
    except ValidationError:
        return  # An earlier release: its evaluation is unknown.
    if evaluation_identity(before) != evaluation_identity(recipe):
        yield Problem(
            (),
            f"{ref!r}: `evaluate` of {ref.stage} has changed since runs/{run}, so the best "
            "checkpoint is undefined; restore `evaluate`, or run "
            f"`continuum run --rerun {ref.stage}`",
            needs="folder",
        )


def why_gone(ref: Ref[Any], artifact: Artifact, run: StageRun) -> str:
    """Explain why a finished stage does not have the selected checkpoint."""
    step, remedy = selected_step(run, ref), ""
    if ref.metric is not None and isinstance(artifact, TrainingCheckpoint):
        if step is None:
            return f"{ref!r}: {ref.stage} is complete, but its {ref.metric} was never finite"
        remedy = (
            f"; select one of these, for example {ref.stage}@step-{artifact.step}, or run "
            f"`continuum run --rerun {ref.stage}` to train again and keep the best"
        )
    steps = ", ".join(str(checkpoint.step) for checkpoint in run.checkpoints())
    return (
        f"{ref!r}: {ref.stage} is complete and has no checkpoint of step {step}"
        f"{' (the best)' if remedy else ''}; found {steps}{remedy}"
    )


def step_problems(ref: Ref[Any], steps: range) -> Iterator[Problem]:
    """The error of a selected step that the stage does not reach."""
    if ref.step is not None and ref.step not in steps:
        first, last = steps.start, steps.stop - 1
        yield Problem((), f"{ref!r}: {ref.stage} only has the steps {first:,} to {last:,}")


def best_problems(
    ref: Ref[Any], metric: str, recipe: Recipe, num_steps: int | None
) -> Iterator[Problem]:
    """Errors of `@best` for a stage with this recipe."""
    if recipe.evaluate is None or recipe.evaluate.every is None:
        yield Problem(
            (),
            f"{ref!r}: {ref.stage} does not evaluate during training, so no checkpoint is the "
            "best; set an interval there, for example `evaluate: {every: 100}`",
        )
        return
    every = intervals_of(recipe, num_steps).evaluate_every if num_steps else None
    if num_steps and every and every > num_steps and not recipe.evaluate.final:
        yield Problem(
            (),
            f"{ref!r}: {ref.stage} has {plural(num_steps, 'step')} and evaluates every {every:,}, "
            "so it never evaluates; evaluate more often",
        )
    known = validation_metrics(evaluated_datasets(recipe.data, recipe.evaluate))
    if metric not in known:
        hint = did_you_mean(metric, known)
        listed = ", ".join(known)
        yield Problem(
            (), f"{ref!r}: unknown metric {metric!r}; {ref.stage} evaluates {listed}{hint}"
        )
