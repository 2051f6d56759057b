"""The experiment: what `experiment.yaml` says, checked, as frozen values."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from continuum.experiment.experiment import Experiment, reference_graph
from continuum.experiment.stage import Stage
from continuum.loading.aliases import same_names
from continuum.loading.compose import Composition, blame_variables, compose, merge
from continuum.loading.diagnostics import Diagnostic, Place, SpecError, in_order
from continuum.loading.keys import KeyPath, suggest
from continuum.loading.messages import show
from continuum.loading.references import (
    circle_problems,
    is_key,
    reference_meant,
    reference_problem,
    sound_stages,
)
from continuum.loading.validate import Checked, Validator, is_about, place_of, unknown_key, without
from continuum.loading.yaml import Node
from continuum.problems import Problem
from continuum.runs.records import with_sequences
from continuum.stages import stage_kinds
from continuum.suggestions import nearest

MAX_NAME_LENGTH = 64
STAGE_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_NAME_LENGTH - 1}}}")


@dataclass(frozen=True)
class Document:
    """An experiment with the document that it was read from."""

    experiment: Experiment
    root: Node
    """The document: bases merged, overrides set, variables filled in."""
    composition: Composition


@dataclass(frozen=True)
class Loaded:
    """Result of reading a spec: the sound part of it, and everything that is wrong."""

    sound: Experiment | None
    """The experiment with its sound stages alone: what can be planned whatever else is wrong.
    None where there is none."""
    tree: Node | None
    """The document with the place of every value; None where it could not be read."""
    problems: Sequence[Diagnostic]
    """In the order of their places."""
    composition: Composition | None = None
    assumed: Mapping[str, Collection[KeyPath]] = field(default_factory=dict)
    """Of sound stages, the fields with an error: other values stand in their place."""

    @property
    def experiment(self) -> Experiment | None:
        """The experiment, when nothing is wrong with it."""
        return None if self.problems else self.sound

    def place(self, problems: Iterable[Problem]) -> list[Diagnostic]:
        """Problems of the sound part at their places, but those that hang on a field in error."""
        assert self.tree is not None
        wrong = {(one.place, one.path) for one in self.problems}
        placed = (place_of(self.tree, it) for it in problems if not self._is_assumed(it))
        return [one for one in placed if (one.place, one.path) not in wrong]

    def _is_assumed(self, problem: Problem) -> bool:
        head, name, *below = (*problem.path, "", "")
        assumed = self.assumed.get(str(name), ()) if head == "stages" else ()
        return is_about(tuple(below[:-2]), problem.message, assumed)

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
        return _Loading(composition, path, is_earlier=is_earlier).load()
    except SpecError as error:
        return Loaded(None, None, in_order(error.diagnostics, str(path)))


PHASES = "03124"
"""First digits of codes as they are looked for: syntax, variables, fields, references, rules."""


def without_echoes(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Leave out what is only said because the same value is wrong already."""
    first: dict[tuple[Place, str], int] = {}
    listed = [(one, PHASES.find(one.code[1])) for one in found]
    for one, phase in listed:
        for key in ((one.place, one.path), *(() if one.path else ((one.place, "*"),))):
            first[key] = min(phase, first.get(key, phase))
    return [
        one
        for one, phase in listed
        if one.place.is_override
        or (
            phase <= first[one.place, one.path]
            and not (one.path and first.get((one.place, "*"), phase + 1) <= phase)
        )
    ]


class _Loading:
    """Checks one document, whose clear misspellings are applied on the way."""

    def __init__(self, composition: Composition, path: Path, *, is_earlier: bool) -> None:
        self._composition = composition
        self._path = path
        reader = with_sequences if is_earlier else dict
        self._validator = Validator(path.parent.resolve(), reader)
        self._tree = composition.root
        self._checked: dict[str, Checked] = {}

    def load(self) -> Loaded:
        self._check_stages()
        experiment = self._check_head()
        stages = {name: it.spec for name, it in self._checked.items()}
        lost = {name for name, spec in stages.items() if spec and self._follow_refs(name, stages)}
        specs: dict[str, Stage] = {n: it.spec for n, it in self._checked.items() if it.spec}
        references = {
            name: it.spec.refs() if it.spec is not None else {}
            for name, it in self._checked.items()
        }
        graph = reference_graph(references)
        for problem in circle_problems(references):
            self._validator.add(self._tree, problem)
        whole = sound_stages({n: it for n, it in specs.items() if n not in lost}, graph)
        asked = {name: self._ask(name, whole) for name in specs}
        right = {n: it for n, it in asked.items() if it and n in whole}
        # What others make of a field that was assumed is not known: of a size, a budget, a model.
        # What lies deeper (a share, a rate, a schedule) hardly ever matters to them.
        known = {
            name: it
            for name, it in right.items()
            if all(len(path) > 1 for path in self._checked[name].assumed)
        }
        links = {n: graph[n].union(r.stage for r in it.refs().values()) for n, it in right.items()}
        certain = sound_stages(known, links)
        sound = {name: it for name, it in right.items() if links[name] <= certain.keys()}
        told = self._told()
        if not told:
            assert experiment is not None
            assert specs.keys() == self._checked.keys(), "a stage was lost without a word"
        is_planned = experiment is not None and sound
        return Loaded(
            experiment.model_copy(update={"stages": sound}) if experiment and is_planned else None,
            self._tree,
            told,
            self._composition,
            {name: it.wrong for name, it in self._checked.items() if it.wrong},
        )

    def _check_stages(self) -> None:
        node = self._tree.child("stages")
        if node is None:
            return
        if not isinstance(node.value, dict) or not node.value:
            message = "`stages` maps names to stages, at least one"
            self._validator.add(self._tree, Problem(("stages",), message, code="E008"))
            return
        stages = self._joined(node.value)
        for name, below in stages.items():
            if below.value is None and (below.removes or below.place.is_override):
                continue
            if not STAGE_NAME.fullmatch(name):
                message = (
                    f"{show(name)} cannot name a stage: it begins with a-z; a-z, 0-9, _ and - "
                    f"follow, {MAX_NAME_LENGTH} letters at most"
                )
                self._add("E106", ("stages", name), message, _as_name(name))
            if _is_only_in_base(below, self._tree):
                own = Path(self._tree.place.file).name
                message = f"stage {name!r} is in a base only: {own} has none so called"
                self._add("E102", ("stages", name), message)
                continue
            self._checked[name] = self._check_stage(name, below)
        repaired = {name: it.node for name, it in self._checked.items()}
        whole = replace(node, value={**stages, **repaired})
        self._tree = self._tree.put(("stages",), whole)

    def _joined(self, stages: Mapping[str, Node]) -> Mapping[str, Node]:
        """The stages, with those of bases joined to the ones that misspell their names."""
        bases = [name for name, node in stages.items() if _is_elsewhere(node, self._tree)]
        joined = dict(stages)
        for name, node in stages.items() if self._validator.affords(len(bases)) else ():
            if not isinstance(node.value, dict) or any(
                _is_elsewhere(it, self._tree) for it in (node, *node.value.values())
            ):
                continue
            free = [base for base in bases if base in joined]
            if "kind" in node.value:
                free = [base for base in free if joined[base].child("kind") is None]
            if (meant := nearest(name, free)) is not None:
                message = f"there is no stage {name!r} in the bases to be completed by this one"
                self._add("E102", ("stages", name), message, meant)
                joined[meant] = merge(joined[meant], joined.pop(name))
        return joined

    def _check_stage(self, name: str, node: Node) -> Checked:
        where = ("stages", name)
        if not isinstance(node.value, dict):
            message = f"stage {name!r} should be a mapping with a `kind`, not {show(node.value)}"
            self._add("E008", where, message)
            return Checked(None, node, node)
        node = self._with_kind(node, where)
        kind, kinds = node.child("kind"), stage_kinds()
        known = ", ".join(kinds)
        if kind is None or kind.value is None:
            self._add("E102", where, f"stage {name!r} needs a 'kind', one of {known}")
        elif not isinstance(kind.value, str):
            message = f"kind should be one of {known}, not {show(kind.value)}"
            self._add("E105", (*where, "kind"), message)
        elif kind.value in kinds:
            return self._validator.check(kinds[kind.value], node, where)
        else:
            aliases = {alias: name for name, cls in kinds.items() for alias in cls.aliases}
            suggestion = aliases.get(kind.value.lower()) or suggest(kind.value, kinds)
            message = f"there is no kind {show(kind.value)}; known: {known}"
            self._add("E105", (*where, "kind"), message, suggestion)
            if suggestion and nearest(kind.value, [suggestion]):
                node = node.put(("kind",), replace(kind, value=suggestion))
                return self._validator.check(kinds[suggestion], node, where)
        return Checked(None, node, node)

    def _with_kind(self, node: Node, where: KeyPath) -> Node:
        """A stage whose key `kind` is put right."""
        assert isinstance(node.value, dict)
        if "kind" in node.value:
            return node
        texts = [key for key, below in node.value.items() if isinstance(below.value, str)]
        slips = [key for key in texts if nearest(key, ["kind"]) or "kind" in same_names(key)]
        if not slips:
            return node
        path, message = (*where, slips[0]), unknown_key(slips[0], where)
        self._validator.add(self._tree, Problem(path, message, "kind", "E101", at_key=True))
        return node.put((slips[0],), node.child(slips[0]), name="kind")

    def _check_head(self) -> Experiment | None:
        """The head of the experiment, with its stages as far as they could be read."""
        stages = {name: it.spec for name, it in self._checked.items()}
        # Why there are none is said already.
        has_stages = self._tree.child("stages") is not None
        head = (
            self._tree.put(("stages",), Node.of({"": None}, self._tree.place))
            if has_stages
            else self._tree
        )
        checked = self._validator.check(Experiment, head)
        found: Experiment | None = checked.spec
        return found.model_copy(update={"stages": stages}) if found is not None else None

    def _follow_refs(self, name: str, stages: Mapping[str, Stage | None]) -> bool:
        """Check the references of a stage; returns whether one leads to nothing usable."""
        checked = self._checked[name]
        lost, slips = False, []
        for path, ref in checked.spec.refs().items():
            if is_about(path, "", checked.assumed):
                lost = True
                continue
            problem = reference_problem(name, path, stages, self._validator.affords)
            if problem is not None:
                self._validator.add(self._tree, problem.below("stages", name))
                meant = reference_meant(ref, problem)
                lost = lost or meant is None
                slips += [(path, ref, meant)] if meant else []
        for path, ref, meant in slips:
            checked = checked.with_reference(path, meant, is_key=is_key(path, ref))
        if slips:
            spec = self._validator.read(type(checked.spec), checked.part)
            self._checked[name] = replace(checked, spec=spec)
            self._tree = self._tree.put(("stages", name), checked.node)
        return lost or self._checked[name].spec is None

    def _ask(self, name: str, stages: Mapping[str, Stage]) -> Stage | None:
        """The stage by its own rules, without the fields that break them; None if it cannot be."""
        checked = self._checked[name]
        cls, part, assumed = type(checked.spec), checked.part, checked.assumed
        wrong = list(checked.spec.problems(stages))
        for it in wrong:
            if not is_about(it.path, it.message, checked.wrong):
                self._validator.add(self._tree, it.below("stages", name))
            part, taken = without(cls, part, it.path, assumed)
            assumed |= taken
        if wrong:
            found: Stage | None = self._validator.read(cls, part)
            is_right = found is not None and not any(found.problems(stages))
            self._checked[name] = replace(checked, spec=found, part=part, assumed=assumed)
            return found if is_right else None
        stage: Stage = checked.spec
        return stage

    def _told(self) -> tuple[Diagnostic, ...]:
        blamed = (blame_variables(one, self._composition) for one in self._validator.found)
        return in_order(without_echoes([*self._composition.mild, *blamed]), str(self._path))

    def _add(self, code: str, path: KeyPath, message: str, suggestion: str | None = None) -> None:
        self._validator.add(self._tree, Problem(path, message, suggestion, code))


def _is_elsewhere(node: Node, root: Node) -> bool:
    place = node.key_place
    return place is not None and not place.is_override and place.file != root.place.file


def _is_only_in_base(node: Node, root: Node) -> bool:
    """Whether it is a part of a stage, meant to be completed by a stage that is not there."""
    return _is_elsewhere(node, root) and isinstance(node.value, dict) and "kind" not in node.value


def _as_name(name: str) -> str | None:
    """The name with what it may not hold replaced, as a suggestion."""
    plain = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[:MAX_NAME_LENGTH]
    return plain if STAGE_NAME.fullmatch(plain) else None
