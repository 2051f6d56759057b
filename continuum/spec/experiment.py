"""The experiment: what `experiment.yaml` says, checked, as frozen values."""

import heapq
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from continuum.artifacts import Artifact, TrainingCheckpoint
from continuum.fields import Ref, Spec, closest, cosmetic_field
from continuum.spec.compose import compose
from continuum.spec.diagnostics import SpecError
from continuum.spec.faults import STAGE_NAME, Faults, describe_noun
from continuum.spec.source import Node
from continuum.stage import Stage, stage_kinds


class Experiment(Spec):
    """One experiment: a name, a seed, and the stages in an order they can run in."""

    continuum: Literal[1]
    """The version of this format."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Letters, digits, dots, dashes and underscores."""
    description: str | None = cosmetic_field(None)
    """A sentence for readers."""
    seed: int = Field(42, ge=0, lt=2**32)
    """Of the model's initialisation, the order of the data, and random splits."""
    vars: dict[str, str | int | float | bool | None] = cosmetic_field({})
    """Values for `${name}` anywhere in `stages`."""
    stages: dict[str, Any] = Field(min_length=1)
    """The stages by name, each with its `kind`."""

    def in_order(self) -> list[str]:
        """The stages' names, each after those it refers to, else as written."""
        written = {name: number for number, name in enumerate(self.stages)}
        sorter = TopologicalSorter(stage_graph(self.stages))
        sorter.prepare()
        ordered: list[str] = []
        ready: list[tuple[int, str]] = []
        while sorter.is_active():
            for name in sorter.get_ready():
                heapq.heappush(ready, (written[name], name))
            _, first = heapq.heappop(ready)
            ordered.append(first)
            sorter.done(first)
        return ordered


def stage_graph(stages: Mapping[str, Stage]) -> dict[str, set[str]]:
    """For each stage, the stages it refers to."""
    return {name: {ref.stage for ref in stage.refs().values()} for name, stage in stages.items()}


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment.

    Args:
        path: The YAML file.
        overrides: `PATH=VALUE` texts, as `--set` takes them.

    Raises:
        SpecError: with every mistake in the file, its bases and the overrides.
    """
    root = compose(path, overrides)
    faults = Faults(root)
    stages = _load_stages(root, path.parent.resolve(), faults)
    experiment = _load_head(root, stages, faults)
    sound = _check_references(root, stages, faults)
    for name, stage in sound.items():
        for problem in stage.problems(sound):
            place = ("stages", name, *problem.path)
            faults.add("E401", place, problem.message, problem.suggestion)
    if faults.found:
        raise SpecError(faults.found)
    assert experiment is not None
    return experiment


def _load_head(root: Node, stages: dict[str, Stage], faults: Faults) -> Experiment | None:
    assert isinstance(root.value, dict)
    plain = {key: node.plain() for key, node in root.value.items() if key != "stages"}
    if "stages" in root.value:
        plain["stages"] = stages or {"": None}
    try:
        return Experiment.model_validate(plain)
    except ValidationError as error:
        faults.add_all(Experiment, error, ())
        return None


def _load_stages(root: Node, folder: Path, faults: Faults) -> dict[str, Stage]:
    node = root.child("stages")
    if node is None:
        return {}
    if not isinstance(node.value, dict) or not node.value:
        faults.add("E008", ("stages",), "`stages` maps names to stages, at least one")
        return {}
    loaded = {}
    for name, below in node.value.items():
        if not STAGE_NAME.fullmatch(name):
            message = f"{name!r} cannot name a stage: use a-z, 0-9, _ and -, from a letter on"
            faults.add("E106", ("stages", name), message, at_key=True)
        stage = _load_stage(name, below, folder, faults)
        if stage is not None:
            loaded[name] = stage
    return loaded


def _load_stage(name: str, node: Node, folder: Path, faults: Faults) -> Stage | None:
    where = ("stages", name)
    if not isinstance(node.value, dict):
        faults.add("E008", where, f"stage {name!r} is a mapping with a `kind`")
        return None
    kinds = stage_kinds()
    kind = node.value.get("kind")
    if kind is None:
        faults.add("E102", where, f"stage {name!r} needs a `kind`: {', '.join(kinds)}", at_key=True)
        return None
    cls = kinds.get(kind.value) if isinstance(kind.value, str) else None
    if cls is None:
        message = f"there is no kind {kind.value!r} (known: {', '.join(kinds)})"
        faults.add("E105", (*where, "kind"), message, closest(str(kind.value), kinds))
        return None
    try:
        return cls.model_validate(node.plain(), context={"folder": folder})
    except ValidationError as error:
        faults.add_all(cls, error, where)
        return None


def _check_references(root: Node, stages: Mapping[str, Stage], faults: Faults) -> dict[str, Stage]:
    """Check every reference; returns the stages that are sound with all they refer to."""
    node = root.child("stages")
    written = list(node.value) if node is not None and isinstance(node.value, dict) else []
    unsound = set(written) - stages.keys()
    for name, stage in stages.items():
        for path, ref in stage.refs().items():
            where = ("stages", name, *(_alias(part) for part in path))
            if not _check_reference(name, ref, where, written, stages, faults):
                unsound.add(name)
    graph = {name: refs & stages.keys() for name, refs in stage_graph(stages).items()}
    try:
        ordered = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        message = f"stages wait for each other: {' -> '.join(circle)}"
        faults.add("E203", ("stages", circle[0]), message, at_key=True)
        return {}
    for name in ordered:
        if stage_graph({name: stages[name]})[name] & unsound:
            unsound.add(name)
    return {name: stages[name] for name in ordered if name not in unsound}


def _check_reference(
    name: str,
    ref: Ref[Any],
    where: tuple[str | int, ...],
    written: Sequence[str],
    stages: Mapping[str, Stage],
    faults: Faults,
) -> bool:
    if ref.stage not in written:
        others = [other for other in written if other != name]
        message = f"there is no stage {ref.stage!r}"
        faults.add("E201", where, message, closest(ref.stage, others))
        return False
    target = stages.get(ref.stage)
    if target is None:
        return False
    if not _makes(target, ref.expects):
        wanted, made = describe_noun(ref.expects), describe_noun(target.output_types()[0])
        fitting = [o for o, s in stages.items() if o != name and _makes(s, ref.expects)]
        message = f"needs {wanted}, but {ref.stage!r} makes {made}"
        faults.add("E202", where, message, closest(ref.stage, fitting))
        return False
    if "@" in ref and not _makes(target, TrainingCheckpoint):
        message = f"{ref.stage!r} has no checkpoints to select from; drop '@{ref.selector}'"
        faults.add("E202", where, message, ref.stage)
        return False
    return True


def _makes(stage: Stage, wanted: type[Artifact]) -> bool:
    return any(issubclass(made, wanted) for made in stage.output_types())


def _alias(part: str | int) -> str | int:
    """A field's name as YAML writes it: a trailing underscore only evades Python's keywords."""
    return part.rstrip("_") if isinstance(part, str) else part
