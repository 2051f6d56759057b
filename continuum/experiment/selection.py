"""What is asked of a stage by one that selects a checkpoint of it, and why that cannot be had.

Which checkpoint is best hangs on when and on how much the stage evaluates. So `evaluate`, which
else only observes, is part of the identity of whoever selects `@best`: it is answered from what
was evaluated and saved, and nothing is trained again for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from continuum.experiment.fields import Ref, Spec
from continuum.experiment.recipe import (
    Recipe,
    evaluated_datasets,
    evaluation_identity,
    intervals_of,
    validation_metrics,
)
from continuum.experiment.stage import Forecast
from continuum.problems import Problem
from continuum.runs.artifacts import Artifact, Checkpoint, TrainingCheckpoint, best_of, best_step
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord
from continuum.suggestions import did_you_mean


def selecting(refs: Iterable[Ref[Any]]) -> dict[str, list[Ref[Any]]]:
    """The references that select a checkpoint, by the stage they select it of."""
    found: dict[str, list[Ref[Any]]] = {}
    for ref in refs:
        if ref.step is not None or ref.metric is not None:
            found.setdefault(ref.stage, []).append(ref)
    return found


def as_recorded(
    ref: Ref[Any], record: StageRecord | None, fingerprints: Mapping[str, str]
) -> Ref[Any]:
    """The reference with the name that the metric's dataset had when the selected stage ran.

    Args:
        record: Of the selected stage's run.
        fingerprints: Of the stages by their names of today.
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
    """What a reference means of a finished stage, or why that is not there.

    Args:
        run: Of the selected stage, as its record is; see `as_recorded`.
    """
    recorded = as_recorded(ref, record, fingerprints)
    chosen = select_from(run, recorded)
    return why_gone(recorded, made, run) if chosen is None else chosen


def select_from(run: StageRun, ref: Ref[Any]) -> Artifact | None:
    """What a reference means of a finished run: its result, or the checkpoint it selects.

    None when the selected step is not there, or no evaluation gave a finite number.

    Raises:
        IntegrityError: `artifact.json`, or a line of metrics.jsonl, cannot be read.
    """
    made = run.artifact()
    if not isinstance(made, Checkpoint) or (ref.step is None and ref.metric is None):
        return made
    step = selected_step(run, ref)
    return next((c for c in run.checkpoints() if c.step == step), None)


def selected_step(run: StageRun, ref: Ref[Any]) -> int | None:
    """The step a reference selects of a finished run: as it says, or the best by its metric.

    A run that did not record its best, since nobody had asked for it, has evaluated all the same.
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
    """Why the selected stage has no best checkpoint, or not the one that is asked for.

    Args:
        recipe: Of the selected stage, as its forecast and its run folder's name are.
        record: Of the run that is kept; None where it is made anew.
    """
    if ref.metric is None or not isinstance(recipe, Recipe):
        return
    yield from best_problems(ref, ref.metric, recipe, forecast.num_steps)
    try:
        before = Recipe.model_validate(record.recipe, strict=False) if record else recipe
    except ValidationError:
        return  # Of an earlier release: what it evaluated is not known.
    if evaluation_identity(before) != evaluation_identity(recipe):
        yield Problem(
            (),
            f"{ref!r}: {ref.stage} was evaluated otherwise in runs/{run} than `evaluate` "
            "says now, so its best is another question; say `evaluate` as it was then, or "
            f"`continuum run --rerun {ref.stage}`",
            needs="folder",
        )


def why_gone(ref: Ref[Any], artifact: Artifact, run: StageRun) -> str:
    """Why a finished stage does not have the selected checkpoint."""
    step, remedy = selected_step(run, ref), ""
    if ref.metric is not None and isinstance(artifact, TrainingCheckpoint):
        if step is None:
            return (
                f"{ref!r}: {ref.stage} is complete, and no {ref.metric} of it was a finite number"
            )
        remedy = (
            f"; select one of these, as in {ref.stage}@step-{artifact.step}, or "
            f"`continuum run --rerun {ref.stage}` trains it again and keeps the best"
        )
    steps = ", ".join(str(checkpoint.step) for checkpoint in run.checkpoints())
    return (
        f"{ref!r}: {ref.stage} is complete and kept no checkpoint of step {step}"
        f"{' (the best)' if remedy else ''}; there are {steps}{remedy}"
    )


def step_problems(ref: Ref[Any], steps: range) -> Iterator[Problem]:
    """Why the selected step is none of those that a stage takes."""
    if ref.step is not None and ref.step not in steps:
        first, last = steps.start, steps.stop - 1
        yield Problem((), f"{ref!r}: {ref.stage} takes only the steps {first:,} to {last:,}")


def best_problems(
    ref: Ref[Any], metric: str, recipe: Recipe, num_steps: int | None
) -> Iterator[Problem]:
    """Why a stage that trains by this recipe has no best checkpoint by the metric."""
    if recipe.evaluate is None or recipe.evaluate.every is None:
        yield Problem(
            (),
            f"{ref!r}: {ref.stage} does not evaluate while it trains, so there is nothing to "
            "choose from; say there how often, as in `evaluate: {every: 100}`",
        )
        return
    every = intervals_of(recipe, num_steps).evaluate_every if num_steps else None
    if num_steps and every and every > num_steps and not recipe.evaluate.final:
        yield Problem(
            (),
            f"{ref!r}: {ref.stage} takes {num_steps:,} steps and evaluates every {every:,}: "
            "never; evaluate more often",
        )
    known = validation_metrics(evaluated_datasets(recipe.data, recipe.evaluate))
    if metric not in known:
        hint = did_you_mean(metric, known)
        listed = ", ".join(known)
        yield Problem((), f"{ref!r}: {ref.stage} evaluates {listed} and no {metric!r}{hint}")
