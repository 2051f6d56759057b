"""What `@best` asks of the stage it selects from.

Which checkpoint is best hangs on when and on how much the stage evaluates. So `evaluate`, which
else only observes, is part of the identity of a stage that another one selects `@best` from.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from continuum.artifacts import Artifact, TrainingCheckpoint
from continuum.best import best_step
from continuum.fields import Ref, Spec
from continuum.recipe import Recipe, evaluated_datasets, intervals_of, validation_metrics
from continuum.runs import StageRun
from continuum.spelling import did_you_mean
from continuum.stage import PlanInput, select_checkpoint

ValueT = TypeVar("ValueT", int, str)


def selected_metrics(stages: Mapping[str, Spec]) -> dict[str, tuple[str, ...]]:
    """The metrics by which other stages select the best checkpoint, by the selected stage."""
    return _selected(stages, lambda ref: ref.metric)


def selected_steps(stages: Mapping[str, Spec]) -> dict[str, tuple[int, ...]]:
    """The steps that other stages select, by the selected stage."""
    return _selected(stages, lambda ref: ref.step)


def _selected(
    stages: Mapping[str, Spec], selected_by: Callable[[Ref[Any]], ValueT | None]
) -> dict[str, tuple[ValueT, ...]]:
    found: dict[str, set[ValueT]] = {}
    for stage in stages.values():
        for ref in stage.refs().values():
            value = selected_by(ref)
            if value is not None:
                found.setdefault(ref.stage, set()).add(value)
    return {name: tuple(sorted(values)) for name, values in found.items()}


def evaluation_identity(recipe: Spec | None) -> dict[str, Any]:
    """What a stage's evaluation adds to its identity once `@best` selects from it."""
    evaluate = recipe.evaluate if isinstance(recipe, Recipe) else None
    return {"evaluate": evaluate.identity()} if evaluate is not None else {}


def selection_problems(
    ref: Ref[Any], parent: PlanInput, artifact: Artifact | None, run: StageRun
) -> Iterator[str]:
    """Why the selected checkpoint cannot be had.

    Args:
        parent: The selected stage.
        artifact: What it made; None while it has not.
        run: Its run folder.
    """
    if ref.metric is not None and isinstance(parent.recipe, Recipe):
        yield from best_problems(ref, ref.metric, parent.recipe, parent.forecast.num_steps)
    if artifact is not None and select_checkpoint(artifact, ref, run) is None:
        yield why_gone(ref, artifact, run)


def why_gone(ref: Ref[Any], artifact: Artifact, run: StageRun) -> str:
    """Why a finished stage does not have the selected checkpoint."""
    step = ref.step
    if ref.metric is not None and isinstance(artifact, TrainingCheckpoint):
        step = best_step(artifact.metrics, ref.metric)
        if step is None:
            return (
                f"{ref!r}: {ref.stage} is complete, and no {ref.metric} of it was a finite number"
            )
    steps = ", ".join(str(checkpoint.manifest.step) for checkpoint in run.checkpoints())
    return (
        f"{ref!r}: {ref.stage} is complete and kept no checkpoint of step {step}; there are {steps}"
    )


def step_problems(ref: Ref[Any], steps: range) -> Iterator[str]:
    """Why the selected step is none of those that a stage takes."""
    if ref.step is not None and ref.step not in steps:
        yield f"{ref!r}: {ref.stage} takes only the steps {steps.start:,} to {steps.stop - 1:,}"


def best_problems(
    ref: Ref[Any], metric: str, recipe: Recipe, num_steps: int | None
) -> Iterator[str]:
    """Why a stage that trains by this recipe has no best checkpoint by the metric."""
    if recipe.evaluate is None or recipe.evaluate.every is None:
        yield (
            f"{ref!r}: {ref.stage} does not evaluate while it trains, so there is nothing to "
            "choose from; say there how often, as in `evaluate: {every: 100}`"
        )
        return
    every = intervals_of(recipe, num_steps).evaluate_every if num_steps else None
    if num_steps and every and every > num_steps and not recipe.evaluate.final:
        yield (
            f"{ref!r}: {ref.stage} takes {num_steps:,} steps and evaluates every {every:,}: "
            "never; evaluate more often"
        )
    known = validation_metrics(evaluated_datasets(recipe.data, recipe.evaluate))
    if metric not in known:
        hint = did_you_mean(metric, known)
        yield f"{ref!r}: {ref.stage} evaluates {', '.join(known)} and no {metric!r}{hint}"
