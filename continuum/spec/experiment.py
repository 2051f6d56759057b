"""The experiment: what `experiment.yaml` says, checked, as frozen values."""

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic_core import PydanticKnownError

from continuum.fields import Spec, cosmetic_field
from continuum.records import with_sequences
from continuum.seeds import Seeds
from continuum.spec.compose import Composition, blame_variables, compose
from continuum.spec.diagnostics import Diagnostic, SpecError, in_order
from continuum.spec.faults import Faults
from continuum.spec.keys import KeyPath, suggest
from continuum.spec.mend import is_only_in_base, mend_stages, unknown_kind
from continuum.spec.nulls import drop_nulls
from continuum.spec.outlook import foreseen_problems
from continuum.spec.references import References, Written, check_references, reference_graph
from continuum.spec.source import Node
from continuum.spec.wording import show
from continuum.stage import Stage
from continuum.stages import stage_kinds

MAX_NAME_LENGTH = 64
STAGE_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_NAME_LENGTH - 1}}}")


def _no_truth_value(value: Any) -> Any:
    if value is True:  # which equals 1
        raise PydanticKnownError("literal_error", {"expected": "1"})
    return value


class Experiment(Spec):
    """One experiment: a name, a seed, and the stages in an order they can run in."""

    continuum: Annotated[Literal[1], BeforeValidator(_no_truth_value)] = cosmetic_field(...)
    """The version of this format."""
    name: str = cosmetic_field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Letters, digits, dots, dashes and underscores."""
    description: str | None = cosmetic_field(None)
    """A sentence for readers."""
    seed: int = Field(42, ge=0, lt=2**32)
    """Sets `seeds.init` and `seeds.data`: a model's first weights and the order of its samples."""
    seeds: Seeds = Seeds()
    """The seeds one by one, for what `seed` should not set."""
    vars: dict[str, str | int | float | bool | None] = cosmetic_field({})
    """Values for `${name}` anywhere in `stages`."""
    stages: dict[str, Any] = Field(min_length=1)
    """The stages by name, each with its `kind`."""

    def all_seeds(self) -> dict[str, int]:
        """The seed of each name that holds for stages that do not state it themselves."""
        return self.seeds.with_seed(self.seed)

    def in_order(self) -> list[str]:
        """The stages' names, each after those it refers to, else as written."""
        written = {name: number for number, name in enumerate(self.stages)}
        references = {name: stage.refs() for name, stage in self.stages.items()}
        sorter = TopologicalSorter(reference_graph(references))
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


@dataclass(frozen=True)
class Document:
    """An experiment with the document that it was read from."""

    experiment: Experiment
    root: Node
    """The document: bases merged, overrides set, variables filled in."""
    composition: Composition

    def diagnostic(
        self,
        code: str,
        path: KeyPath,
        message: str,
        suggestion: str | None = None,
        *,
        at_key: bool = False,
    ) -> Diagnostic:
        """Something to say about the value (or the key) at `path`, or the nearest above it."""
        faults = Faults(self.root)
        faults.add(code, path, message, suggestion, at_key=at_key)
        return faults.found[0]


@dataclass(frozen=True)
class Loaded:
    """Result of reading a spec: the sound part of it, and everything that is wrong."""

    sound: Experiment | None
    """The experiment with its sound stages alone: those without an error, and so all that they
    refer to. None where there is none, or where the head of the file is wrong."""
    tree: Node | None
    """The document with the place of every value; None where it could not be read."""
    problems: Sequence[Diagnostic]
    """In the order of their places."""
    composition: Composition | None = None

    @property
    def experiment(self) -> Experiment | None:
        """The experiment, when nothing is wrong with it."""
        return None if self.problems else self.sound

    def diagnostic(
        self,
        code: str,
        path: KeyPath,
        message: str,
        suggestion: str | None = None,
        *,
        at_key: bool = False,
    ) -> Diagnostic:
        """An error about the value (or the key) at `path`, or the nearest above it."""
        assert self.tree is not None
        faults = Faults(self.tree)
        faults.add(code, path, message, suggestion, at_key=at_key)
        return faults.found[0]

    def document(self) -> Document:
        """The experiment with its document.

        Raises:
            SpecError: with every problem.
        """
        if self.problems:
            raise SpecError(self.problems, first=self.problems[0].place.file)
        assert self.sound is not None
        assert self.tree is not None
        assert self.composition is not None
        return Document(self.sound, self.tree, self.composition)


def load_experiment(
    path: Path, overrides: Sequence[str] = (), *, is_earlier: bool = False
) -> Experiment:
    """Read and check an experiment; see `load_document`."""
    return load_document(path, overrides, is_earlier=is_earlier).experiment


def load_document(
    path: Path, overrides: Sequence[str] = (), *, is_earlier: bool = False
) -> Document:
    """Read and check an experiment, and keep where everything stands; see `load`.

    Raises:
        SpecError: with every mistake in the file, its bases and the overrides.
    """
    return load(path, overrides, is_earlier=is_earlier).document()


def load(path: Path, overrides: Sequence[str] = (), *, is_earlier: bool = False) -> Loaded:
    """Read and check an experiment: everything that is wrong, and the sound part.

    Args:
        path: The YAML file.
        overrides: `PATH=VALUE` texts, as `--set` takes them.
        is_earlier: Whether to read fields of an earlier release too.
    """
    try:
        composition = compose(path, overrides)
        root = drop_nulls(composition.root, Experiment, composition.cleared)
        root = mend_stages(root, composition.mild)
        return _check(root, composition, path, is_earlier=is_earlier)
    except SpecError as error:
        return Loaded(None, None, in_order(error.diagnostics, str(path)))


def _check(root: Node, composition: Composition, path: Path, *, is_earlier: bool) -> Loaded:
    mild, faults = composition.mild, Faults(root)
    written = _load_stages(root, path.parent.resolve(), faults, is_earlier=is_earlier)
    experiment = _load_head(root, written.stages, faults)
    sound = check_references(written, faults)
    problems = [
        (name, it) for name, stage in written.stages.items() for it in stage.problems(sound)
    ]
    problems += foreseen_problems(sound, {name for name, _ in problems})
    for name, problem in problems:
        place = ("stages", name, *problem.path)
        is_about_key = repr(str(place[-1])) in problem.message
        faults.add("E401", place, problem.message, problem.suggestion, at_key=is_about_key)
    found = (blame_variables(fault, composition) for fault in faults.found)
    told = in_order([*mild, *_without_echoes(found, mild)], str(path))
    if not told:
        assert experiment is not None
        assert written.stages.keys() == written.references.keys(), "a stage was lost without a word"
    right = _sound_with_inputs(sound, {name for name, _ in problems})
    is_planned = experiment is not None and right
    return Loaded(
        experiment.model_copy(update={"stages": right}) if experiment and is_planned else None,
        root,
        told,
        composition,
    )


def _sound_with_inputs(stages: Mapping[str, Stage], faulty: set[str]) -> dict[str, Stage]:
    """The stages that are not faulty and refer to none that is, in the order of the document."""
    graph = reference_graph({name: stage.refs() for name, stage in stages.items()})
    right: set[str] = set()
    for name in TopologicalSorter(graph).static_order():
        if name not in faulty and graph[name] <= right:
            right.add(name)
    return {name: stage for name, stage in stages.items() if name in right}


def _without_echoes(
    found: Iterable[Diagnostic], mild: Iterable[Diagnostic]
) -> Iterator[Diagnostic]:
    """Leave out what is only said because the same value is wrong already."""
    places = {fault.place for fault in mild if not fault.place.is_override}
    return (fault for fault in found if fault.place not in places)


def _load_head(root: Node, stages: Mapping[str, Stage], faults: Faults) -> Experiment | None:
    assert isinstance(root.value, dict)
    plain = {key: node.plain() for key, node in root.value.items() if key != "stages"}
    if "stages" in root.value:
        plain["stages"] = dict(stages) or {"": None}  # why there are none is already said
    try:
        return Experiment.model_validate(plain)
    except ValidationError as error:
        faults.add_all(Experiment, error, ())
        return None


def _load_stages(root: Node, folder: Path, faults: Faults, *, is_earlier: bool) -> Written:
    node = root.child("stages")
    if node is None:
        return Written({}, {})
    if not isinstance(node.value, dict) or not node.value:
        faults.add("E008", ("stages",), "`stages` maps names to stages, at least one")
        return Written({}, {})
    stages: dict[str, Stage] = {}
    references: dict[str, References] = {}
    for name, below in node.value.items():
        if not STAGE_NAME.fullmatch(name):
            message = (
                f"{show(name)} cannot name a stage: it begins with a-z; a-z, 0-9, _ and - follow, "
                f"{MAX_NAME_LENGTH} letters at most"
            )
            faults.add("E106", ("stages", name), message, _as_name(name), at_key=True)
        if is_only_in_base(below, root):
            own = Path(root.place.file).name
            message = f"stage {name!r} is in a base only: {own} has none so called"
            faults.add("E102", ("stages", name), message, at_key=True)
            continue
        stage, references[name] = _load_stage(name, below, folder, faults, is_earlier=is_earlier)
        if stage is not None:
            stages[name] = stage
    return Written(stages, references)


def _load_stage(
    name: str, node: Node, folder: Path, faults: Faults, *, is_earlier: bool
) -> tuple[Stage | None, References]:
    cls = _kind_of(name, node, faults)
    if cls is None:
        return None, {}
    plain, context = node.plain(), {"folder": folder}
    if is_earlier:
        plain = with_sequences(plain)
    try:
        stage = cls.model_validate(plain, context=context)
    except ValidationError as error:
        faults.add_all(cls, error, ("stages", name))
        bad = {fault["loc"][0] for fault in error.errors(include_input=False) if fault["loc"]}
        good = {key: value for key, value in plain.items() if key not in bad}
        return None, _part_of(cls, frozenset(good)).model_validate(good, context=context).refs()
    return stage, stage.refs()


def _kind_of(name: str, node: Node, faults: Faults) -> type[Stage] | None:
    where = ("stages", name)
    kinds = stage_kinds()
    if not isinstance(node.value, dict):
        message = f"stage {name!r} should be a mapping with a `kind`, not {show(node.value)}"
        faults.add("E008", where, message)
        return None
    kind = node.value.get("kind")
    if kind is None:
        message = f"stage {name!r} needs a 'kind', one of {', '.join(kinds)}"
        faults.add("E102", where, message, at_key=True)
        return None
    if not isinstance(kind.value, str):
        message = f"kind should be one of {', '.join(kinds)}, not {show(kind.value)}"
        faults.add("E105", (*where, "kind"), message)
        return None
    cls = kinds.get(kind.value)
    if cls is None:
        aliases = {alias: name for name, known in kinds.items() for alias in known.aliases}
        suggestion = aliases.get(kind.value.lower()) or suggest(kind.value, kinds)
        faults.add("E105", (*where, "kind"), unknown_kind(kind.value), suggestion)
    return cls


@cache
def _part_of(cls: type[Stage], keys: frozenset[str]) -> type[Spec]:
    """The fields of a kind that a faulty stage has right, to find the references among them."""
    fields: dict[str, Any] = {
        name: (info.annotation, info)
        for name, info in cls.model_fields.items()
        if (info.alias or name) in keys
    }
    return create_model(f"{cls.__name__}Part", __base__=Spec, **fields)


def _as_name(name: str) -> str | None:
    """The name with what it may not hold replaced, as a suggestion."""
    plain = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[:MAX_NAME_LENGTH]
    return plain if STAGE_NAME.fullmatch(plain) else None
