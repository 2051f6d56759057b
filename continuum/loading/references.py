"""Checks of references between stages: names, artifacts, selectors and circles."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

from continuum.errors import Problem
from continuum.experiment.experiment import References
from continuum.experiment.fields import Ref
from continuum.experiment.stage import Stage
from continuum.loading.aliases import note_on
from continuum.loading.keys import KeyPath, suggest
from continuum.loading.messages import format_value
from continuum.runs.artifacts import Artifact, TrainingCheckpoint
from continuum.suggestions import nearest

MAX_CIRCLES = 100
"""Maximum number of circles that are reported."""


def reference_problem(
    name: str,
    path: KeyPath,
    stages: Mapping[str, Stage | None],
    can_compare: Callable[[int], bool],
) -> Problem | None:
    """Return the problem of a reference of the stage `name`; None if it is valid.

    Args:
        name: The stage that refers.
        path: The path of the reference in the stage.
        stages: All stages; None for invalid ones.
        can_compare: Whether to compare a name with so many others.
    """
    stage = stages[name]
    assert stage is not None
    ref = stage.refs()[path]
    if ref.stage not in stages:
        others = _others(name, stages, can_compare)
        fitting = [it for it, made in others.items() if made is None or _makes(made, ref.expects)]
        message = f"stage {format_value(ref.stage)} not found"
        message += f"; {note}" if (note := note_on(ref.stage)) else ""
        meant = suggest(ref.stage, fitting or others)
        return Problem(path, message, meant, "E201", at_key=is_key(path, ref))
    target = stages[ref.stage]
    if target is None or ref.stage == name:
        return None
    made = describe_noun(target.output_types()[0])
    if not _makes(target, ref.expects):
        others = _others(name, stages, can_compare)
        fitting = [it for it, made in others.items() if made and _makes(made, ref.expects)]
        meant = fitting[0] if len(fitting) == 1 else suggest(ref.stage, fitting)
        wanted = describe_noun(ref.expects)
        field = _field(path, ref)
        message = f"{field} must refer to {wanted}, but stage {ref.stage!r} outputs {made}"
        message += _remedy(type(stage), field, target)
        return Problem(path, message, meant, "E202", at_key=is_key(path, ref))
    if "@" in ref and not (_makes(target, TrainingCheckpoint) and target.trains):
        message = f"cannot select a checkpoint of stage {ref.stage!r}, which outputs {made}"
        return Problem(path, message, ref.stage, "E202", at_key=is_key(path, ref))
    return None


def reference_meant(ref: Ref[Any], problem: Problem) -> str | None:
    """Return the reference with a clear typo in its stage fixed; None if there is none."""
    meant = problem.suggestion
    is_typo = problem.code == "E201" and meant and nearest(ref.stage, [meant])
    return f"{meant}{ref[len(ref.stage) :]}" if is_typo else None


def describe_noun(cls: type[Artifact]) -> str:
    """`a corpus`, `model weights`, `a training checkpoint`."""
    return cls.noun if cls.noun.endswith("weights") else f"a {cls.noun}"


def is_key(path: KeyPath, ref: Ref[Any]) -> bool:
    """Return True if the reference is a key of a mixture, not a value."""
    return len(path) > 1 and path[-1] == str(ref)


def circle_problems(references: Mapping[str, References]) -> Iterator[Problem]:
    """Yield circular references between stages; each stage is in one circle at most."""
    order = {name: number for number, name in enumerate(references)}
    graph = {
        name: sorted({ref.stage for ref in refs.values()} & order.keys(), key=order.__getitem__)
        for name, refs in references.items()
    }
    for name in [name for name, refs in graph.items() if name in refs]:
        yield _circle_problem([name], references, order)
        del graph[name]
    for _ in range(MAX_CIRCLES):
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            circle: list[str] = error.args[1][:0:-1]  # each after the one that refers to it
        begin = circle.index(min(circle, key=order.__getitem__))
        yield _circle_problem([*circle[begin:], *circle[:begin]], references, order)
        graph = {name: refs for name, refs in graph.items() if name not in circle}


def _circle_problem(
    circle: list[str], references: Mapping[str, References], order: Mapping[str, int]
) -> Problem:
    message = f"circular reference between stages: {' -> '.join((*circle, circle[0]))}"
    if len(circle) == 1:
        message = f"stage {circle[0]!r} refers to itself"
    forward = [
        (name, *path)
        for name in circle
        for path, ref in references[name].items()
        if ref.stage in circle and order[ref.stage] >= order[name]
    ]
    if len(forward) == 1:  # the others lead up the file, as usual
        return Problem(("stages", *forward[0]), message, code="E203")
    return Problem(("stages", circle[0]), message, code="E203", at_key=True)


def sound_stages(stages: Mapping[str, Stage], graph: Mapping[str, set[str]]) -> dict[str, Stage]:
    """Return the stages whose references, direct or not, are all in `stages`."""
    sorter = TopologicalSorter(graph)
    with suppress(CycleError):  # stages of a circle never become ready
        sorter.prepare()
    sound: set[str] = set()
    while ready := sorter.get_ready():
        sound.update(name for name in ready if name in stages and graph[name] <= sound)
        sorter.done(*ready)
    return {name: stage for name, stage in stages.items() if name in sound}


def _others(
    name: str, stages: Mapping[str, Stage | None], can_compare: Callable[[int], bool]
) -> Mapping[str, Stage | None]:
    """The stages that `name` may refer to: those that do not depend on it."""
    num_refs = sum(len(stage.refs()) for stage in stages.values() if stage is not None)
    if not can_compare(len(stages) + num_refs):
        return {}
    users: dict[str, list[str]] = {}
    for other, stage in stages.items():
        for ref in stage.refs().values() if stage is not None else ():
            users.setdefault(ref.stage, []).append(other)
    dependent, waiting = {name}, [name]
    while waiting:
        found = [it for it in users.get(waiting.pop(), ()) if it not in dependent]
        dependent.update(found)
        waiting += found
    return {other: it for other, it in stages.items() if other not in dependent}


def _remedy(cls: type[Stage], field: str, target: Stage) -> str:
    """What to do instead of naming this stage in a field; empty if nothing is known."""
    fitting = (
        advice
        for (name, made), advice in cls.instead.items()
        if name == field and any(issubclass(it, made) for it in target.output_types())
    )
    return "".join(f"; {advice}" for advice in [*fitting][:1])


def _field(path: KeyPath, ref: Ref[Any]) -> str:
    names = [part for part in path if isinstance(part, str)]
    return names[-2] if is_key(path, ref) else names[-1]


def _makes(stage: Stage, wanted: type[Artifact]) -> bool:
    return any(issubclass(made, wanted) for made in stage.output_types())
