"""Whether the stages refer to each other rightly: names, artifacts, selectors, and no circle."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from continuum.artifacts import Artifact, TrainingCheckpoint
from continuum.fields import Ref
from continuum.spec.faults import Faults
from continuum.spec.keys import KeyPath, suggest
from continuum.stage import Stage

References = Mapping[tuple[str | int, ...], Ref[Any]]
"""The references of one stage by their place in it."""


@dataclass(frozen=True)
class Written:
    """What is known of the stages as they are written, faulty ones included."""

    stages: Mapping[str, Stage]
    """Those whose fields are right."""
    references: Mapping[str, References]
    """Of every stage, as far as they could be read."""


def check_references(written: Written, faults: Faults) -> dict[str, Stage]:
    """Check every reference; returns the stages that are sound with all they refer to."""
    unsound = written.references.keys() - written.stages.keys()
    for name, references in written.references.items():
        for path, ref in references.items():
            problem = _problem_of(name, ref, _field(path, ref), written)
            if problem is not None and problem.message:
                where = ("stages", name, *(_as_written(part) for part in path))
                is_key = _is_key(path, ref)
                faults.add(problem.code, where, problem.message, problem.suggestion, at_key=is_key)
            if problem is not None:
                unsound.add(name)
    graph = reference_graph(written.references)
    for circle in _circles(graph):
        route = " -> ".join((*circle, circle[0]))
        message = f"stages wait for each other: {route}"
        if len(circle) == 1:
            message = f"stage {circle[0]!r} refers to itself"
        faults.add("E203", ("stages", circle[0]), message, at_key=True)
        unsound.update(circle)
    return {name: written.stages[name] for name in _sound(graph, unsound)}


def reference_graph(references: Mapping[str, References]) -> dict[str, set[str]]:
    """For each stage, the stages it refers to."""
    return {name: {ref.stage for ref in refs.values()} for name, refs in references.items()}


@dataclass(frozen=True)
class _Problem:
    """Why a reference leads to nothing usable; without words where that is told elsewhere."""

    code: str = ""
    message: str = ""
    suggestion: str | None = None


def _problem_of(name: str, ref: Ref[Any], field: str, written: Written) -> _Problem | None:
    if ref.stage not in written.references:
        others = _fitting(name, ref, written) or [o for o in written.references if o != name]
        message = f"there is no stage {ref.stage!r}"
        return _Problem("E201", message, suggest(ref.stage, others))
    target = written.stages.get(ref.stage)
    if target is None or ref.stage == name:
        return _Problem()
    made = describe_noun(target.output_types()[0])
    if not _makes(target, ref.expects):
        fitting = _fitting(name, ref, written)
        suggestion = fitting[0] if len(fitting) == 1 else suggest(ref.stage, fitting)
        wanted = describe_noun(ref.expects)
        message = f"{field} needs {wanted}, but stage {ref.stage!r} makes {made}"
        return _Problem("E202", message, suggestion)
    if "@" in ref and not (_makes(target, TrainingCheckpoint) and target.trains):
        message = f"stage {ref.stage!r} makes {made}: it has no checkpoints to select from"
        return _Problem("E202", message, ref.stage)
    return None


def describe_noun(cls: type[Artifact]) -> str:
    """`a corpus`, `model weights`, `a training checkpoint`."""
    return cls.noun if cls.noun.endswith("weights") else f"a {cls.noun}"


def _is_key(path: KeyPath, ref: Ref[Any]) -> bool:
    """Whether the reference is a key of a mixture rather than a value."""
    return len(path) > 1 and path[-1] == str(ref)


def _field(path: KeyPath, ref: Ref[Any]) -> str:
    names = [part for part in path if isinstance(part, str)]
    return str(_as_written(names[-2] if _is_key(path, ref) else names[-1]))


def _fitting(name: str, ref: Ref[Any], written: Written) -> list[str]:
    return [
        other
        for other, stage in written.stages.items()
        if other != name and _makes(stage, ref.expects)
    ]


def _makes(stage: Stage, wanted: type[Artifact]) -> bool:
    return any(issubclass(made, wanted) for made in stage.output_types())


def _circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Stages that wait for each other, each stage in one circle at most."""
    # Sorted, so that of overlapping circles the same one is found every time.
    left = {name: sorted(refs & graph.keys()) for name, refs in graph.items()}
    while True:
        try:
            TopologicalSorter(left).prepare()
            return
        except CycleError as error:
            circle = list(reversed(error.args[1]))[:-1]
        begin = circle.index(next(name for name in graph if name in circle))
        yield circle[begin:] + circle[:begin]
        left = {
            name: [ref for ref in refs if ref not in circle]
            for name, refs in left.items()
            if name not in circle
        }


def _sound(graph: Mapping[str, set[str]], unsound: set[str]) -> list[str]:
    """The stages that lead to none that is unsound, as written."""
    users: dict[str, list[str]] = {}
    for name, refs in graph.items():
        for ref in refs:
            users.setdefault(ref, []).append(name)
    bad: set[str] = set()
    waiting = list(unsound)
    while waiting:
        name = waiting.pop()
        if name not in bad:
            bad.add(name)
            waiting += users.get(name, ())
    return [name for name in graph if name not in bad]


def _as_written(part: str | int) -> str | int:
    """A field's name in YAML: a trailing underscore only evades Python's keywords."""
    return part.rstrip("_") if isinstance(part, str) else part
