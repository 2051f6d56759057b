"""What the plan would refuse in any folder, told of the spec alone and so by line.

The plan knows more (data that exists, the machine) and asks the same questions again.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any

from continuum.architecture import Architecture
from continuum.artifacts import Checkpoint
from continuum.preflight.fitness import batch_problems, model_problems
from continuum.problems import Problem
from continuum.recipe import Recipe, ResumeSchedule
from continuum.selection import best_problems, step_problems
from continuum.spec.references import reference_graph
from continuum.stage import Ref, Spec, Stage
from continuum.training_stage import metric_problems


@dataclass(frozen=True)
class _Outlook:
    """What is known of a stage before it runs, and before its data exists."""

    recipe: Spec | None
    shape: Architecture | None
    """Of the model that it trains or holds."""
    steps: range | None
    """Optimizer steps that it takes."""


def foreseen_problems(
    stages: Mapping[str, Stage], faulty: Collection[str]
) -> Iterator[tuple[str, Problem]]:
    """By stage, why no run of it could begin.

    Args:
        stages: Those that are sound with all they refer to.
        faulty: Of them, those with mistakes that are told already.
    """
    known: dict[str, _Outlook] = {}
    graph = reference_graph({name: stage.refs() for name, stage in stages.items()})
    for name in TopologicalSorter(graph).static_order():
        if name in faulty or not graph[name] <= known.keys():
            continue
        stage = stages[name]
        known[name] = _outlook(stage, known)
        for problem in (*_selection_problems(stage, known), *_fitness_problems(stage, known[name])):
            yield name, problem


def _outlook(stage: Stage, known: Mapping[str, _Outlook]) -> _Outlook:
    own_refs = {ref.stage for ref in stage.refs().values()}
    recipe = stage.recipe({parent: known[parent].recipe for parent in own_refs})
    models = [ref for ref in stage.refs().values() if issubclass(ref.expects, Checkpoint)]
    shape = known[models[0].stage].shape if models else stage.architecture()
    num_steps = recipe.num_steps(None) if isinstance(recipe, Recipe) else None
    if num_steps is None:
        return _Outlook(recipe, shape, None)
    first = _first_step(models[0], known) if _extends(recipe) else 1
    return _Outlook(recipe, shape, range(first, num_steps + 1))


def _first_step(parent: Ref[Any], known: Mapping[str, _Outlook]) -> int:
    """The first step of a resume; no later than that where it is not known."""
    steps = known[parent.stage].steps
    if parent.step is not None:
        return parent.step + 1
    return steps.stop if steps and parent.metric is None else 1


def _selection_problems(stage: Stage, known: Mapping[str, _Outlook]) -> Iterator[Problem]:
    for where, ref in stage.refs().items():
        parent = known[ref.stage]
        if ref.metric is not None and isinstance(parent.recipe, Recipe):
            num_steps = parent.steps.stop - 1 if parent.steps else None
            for problem in best_problems(ref, ref.metric, parent.recipe, num_steps):
                yield problem.below(*where)
        if ref.step is not None and parent.steps:
            for problem in step_problems(ref, parent.steps):
                yield problem.below(*where)


def _fitness_problems(stage: Stage, outlook: _Outlook) -> Iterator[Problem]:
    recipe = outlook.recipe
    if not isinstance(recipe, Recipe):
        return
    if not _extends(recipe):
        yield from model_problems(recipe, outlook.shape, {})
        yield from batch_problems(recipe)
    elif (
        getattr(stage, "runtime", None) is not None
    ):  # else it is its parent's, of which it is told
        yield from metric_problems(recipe.runtime, recipe.data)
        for problem in batch_problems(recipe):
            yield replace(problem, path=("runtime", "micro_batch_size"))


def _extends(recipe: Spec | None) -> bool:
    return isinstance(recipe, Recipe) and isinstance(recipe.schedule, ResumeSchedule)
