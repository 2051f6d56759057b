"""Whether the stages refer to each other rightly: names, artifacts, selectors, and no circle."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from continuum.artifacts import Artifact, TrainingCheckpoint
from continuum.fields import Ref
from continuum.spec.faults import Faults
from continuum.spec.keys import KeyPath, suggest
from continuum.spec.wording import show
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
            problem = _problem_of(name, ref, _field(path, ref), written, faults)
            if problem is not None and problem.message:
                where = ("stages", name, *(as_written(part) for part in path))
                is_key = _is_key(path, ref)
                faults.add(problem.code, where, problem.message, problem.suggestion, at_key=is_key)
            if problem is not None:
                unsound.add(name)
    graph = reference_graph(written.references)
    order = {name: number for number, name in enumerate(written.references)}
    for circle in _circles(graph, order):
        route = " -> ".join((*circle, circle[0]))
        message = f"stages wait for each other: {route}"
        if len(circle) == 1:
            message = f"stage {circle[0]!r} refers to itself"
        forward = _forward_references(circle, written.references, order)
        if len(forward) == 1:  # the others lead up the file, as usual: this one is the odd one
            faults.add("E203", ("stages", *forward[0]), message)
        else:
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


def _problem_of(
    name: str, ref: Ref[Any], field: str, written: Written, faults: Faults
) -> _Problem | None:
    if ref.stage not in written.references:
        others = _fitting(name, ref, written, faults, or_faulty=True)
        message = f"there is no stage {show(ref.stage)}"
        return _Problem("E201", message, suggest(ref.stage, others))
    target = written.stages.get(ref.stage)
    if target is None or ref.stage == name:
        return _Problem()
    made = describe_noun(target.output_types()[0])
    if not _makes(target, ref.expects):
        fitting = _fitting(name, ref, written, faults)
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
    return str(as_written(names[-2] if _is_key(path, ref) else names[-1]))


def _fitting(
    name: str, ref: Ref[Any], written: Written, faults: Faults, *, or_faulty: bool = False
) -> list[str]:
    """The stages that a reference may have meant; of a faulty one it is not known what it makes."""
    if not faults.effort.affords(len(written.references)):
        return []
    others = [other for other in written.references if other != name]
    fitting = [
        other
        for other in others
        if (_makes(made, ref.expects) if (made := written.stages.get(other)) else or_faulty)
    ]
    return fitting or (others if or_faulty else [])


def _makes(stage: Stage, wanted: type[Artifact]) -> bool:
    return any(issubclass(made, wanted) for made in stage.output_types())


def _circles(graph: Mapping[str, set[str]], order: Mapping[str, int]) -> Iterator[list[str]]:
    """Stages that wait for each other, each stage in one circle at most; begun at the first."""
    # Sorted, so that of overlapping circles the same one is found every time.
    at = order.__getitem__
    left = {name: sorted(refs & graph.keys(), key=at) for name, refs in graph.items()}
    depths: dict[str, int] = {}  # of those on the way; those left behind are at -1
    for start in graph:
        way = [start] if start not in depths else []
        depths.setdefault(start, 0)
        while way:
            ref = left[way[-1]].pop() if left[way[-1]] else None
            if ref is None:
                depths[way.pop()] = -1
            elif ref not in depths:
                depths[ref] = len(way)
                way.append(ref)
            elif depths[ref] >= 0:
                circle, way = way[depths[ref] :], way[: depths[ref]]
                depths.update(dict.fromkeys(circle, -1))
                begin = circle.index(min(circle, key=at))
                yield circle[begin:] + circle[:begin]


def _forward_references(
    circle: list[str], references: Mapping[str, References], order: Mapping[str, int]
) -> list[tuple[str | int, ...]]:
    """Where the stages of a circle refer to one of them that stands further down, or to itself."""
    members = set(circle)
    return [
        (name, *(as_written(part) for part in path))
        for name in circle
        for path, ref in references[name].items()
        if ref.stage in members and order[ref.stage] >= order[name]
    ]


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


def as_written(part: str | int) -> str | int:
    """A field's name in YAML: a trailing underscore only evades Python's keywords."""
    return part.rstrip("_") if isinstance(part, str) else part
