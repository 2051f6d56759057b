"""Loading: from `experiment.yaml` to an `Experiment`, and all errors with their places."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from continuum.errors import Problem
from continuum.experiment.experiment import Experiment, reference_graph
from continuum.experiment.stage import Stage
from continuum.experiment.url import Url
from continuum.loading.aliases import canonical_names
from continuum.loading.compose import Composition, compose, merge, with_variable_places
from continuum.loading.diagnostics import OVERRIDE, Diagnostic, Place, SpecError, in_order
from continuum.loading.keys import KeyPath, field_at
from continuum.loading.kinds import meant_kind
from continuum.loading.messages import format_value
from continuum.loading.overrides import as_index
from continuum.loading.references import (
    circle_problems,
    is_key,
    reference_meant,
    reference_problem,
    sound_stages,
)
from continuum.loading.validate import Checked, Validator, is_about, place_of, unknown_key, without
from continuum.loading.yaml import Node, is_removal
from continuum.runs.records import with_sequences
from continuum.stages import stage_kinds
from continuum.suggestions import nearest

MAX_NAME_LENGTH = 64
STAGE_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_NAME_LENGTH - 1}}}")


@dataclass(frozen=True)
class Document:
    """An experiment and the document it was read from."""

    experiment: Experiment
    root: Node
    """The document: bases merged, overrides applied, variables substituted."""
    composition: Composition


@dataclass(frozen=True)
class Loaded:
    """The valid part of a spec, and all its errors."""

    sound: Experiment | None
    """The experiment with its valid stages only, which can be planned; None if there is none."""
    tree: Node | None
    """The document with the place of every value; None if it cannot be read."""
    problems: Sequence[Diagnostic]
    """Sorted by place."""
    composition: Composition | None = None
    assumed: Mapping[str, Collection[KeyPath]] = field(default_factory=dict)
    """Invalid fields of valid stages, which have other values in `sound`."""

    @property
    def experiment(self) -> Experiment | None:
        """The experiment; None if it has errors."""
        return None if self.problems else self.sound

    def place(self, problems: Iterable[Problem]) -> list[Diagnostic]:
        """Return problems of the valid part with places, except those due to invalid fields.

        The value of a secret override is masked.
        """
        assert self.tree is not None
        wrong = {(one.place, one.path) for one in self.problems}
        placed = (place_of(self.tree, it) for it in problems if not self._is_assumed(it))
        return [self._explained(it) for it in placed if (it.place, it.path) not in wrong]

    def _explained(self, placed: Diagnostic) -> Diagnostic:
        assert self.composition is not None
        if not placed.shows_source and placed.place.is_override:
            path = placed.place.file.removeprefix(OVERRIDE).partition("=")[0]
            return replace(placed, place=replace(placed.place, file=f"{OVERRIDE}{path}=…"))
        is_error = placed.severity == "error"
        return with_variable_places(placed, self.composition) if is_error else placed

    def _is_assumed(self, problem: Problem) -> bool:
        head, name, *below = (*problem.path, "", "")
        assumed = self.assumed.get(str(name), ()) if head == "stages" else ()
        return is_about(tuple(below[:-2]), problem.message, assumed)

    def document(self) -> Document:
        """Return the experiment and its document.

        Raises:
            SpecError: with all errors.
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
    """Load an experiment; see `load`.

    Raises:
        SpecError: with all errors in the file, its bases and the overrides.
    """
    return load_document(path, overrides, is_earlier=is_earlier).experiment


def load_document(
    path: Path, overrides: Sequence[str] = (), *, is_earlier: bool = False
) -> Document:
    """Load an experiment and keep the place of every value; see `load`.

    Raises:
        SpecError: with all errors in the file, its bases and the overrides.
    """
    return load(path, overrides, is_earlier=is_earlier).document()


def load(path: Path, overrides: Sequence[str] = (), *, is_earlier: bool = False) -> Loaded:
    """Load an experiment: its valid part and all errors.

    Args:
        path: The YAML file.
        overrides: The `PATH=VALUE` arguments of `--set`.
        is_earlier: Whether to accept fields of an earlier release.
    """
    try:
        composition = compose(path, overrides)
        return _Loading(composition, path, is_earlier=is_earlier).load()
    except SpecError as error:
        return Loaded(None, None, in_order(error.diagnostics, str(path)))


PHASES = "03124"
"""First digits of codes in the order of checks: syntax, variables, fields, references, rules."""


def without_echoes(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Drop errors that only repeat an earlier error of the same value."""
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
    """Checks one document and fixes clear typos on the way."""

    def __init__(self, composition: Composition, path: Path, *, is_earlier: bool) -> None:
        self._composition = composition
        self._path = path
        reader = with_sequences if is_earlier else dict
        self._validator = Validator(path.parent.resolve(), reader)
        self._tree = composition.root
        self._checked: dict[str, Checked] = {}

    def load(self) -> Loaded:
        self._check_stages()
        self._check_environment()
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
        # An invalid size, budget or model affects other stages; nested fields (a share, a rate)
        # hardly ever do.
        known = {
            name: it
            for name, it in right.items()
            if all(len(path) > 1 for path in self._checked[name].assumed)
        }
        links = {n: graph[n].union(r.stage for r in it.refs().values()) for n, it in right.items()}
        certain = sound_stages(known, links)
        sound = {name: it for name, it in right.items() if links[name] <= certain.keys()}
        errors = self._errors()
        if not errors:
            assert experiment is not None
            assert specs.keys() == self._checked.keys(), "an invalid stage has no error"
        is_planned = experiment is not None and sound
        return Loaded(
            experiment.model_copy(update={"stages": sound}) if experiment and is_planned else None,
            self._tree,
            errors,
            self._composition,
            {name: it.wrong for name, it in self._checked.items() if it.wrong},
        )

    def _check_stages(self) -> None:
        node = self._tree.child("stages")
        if node is None:
            return
        if not isinstance(node.value, dict) or not node.value:
            message = "`stages` must be a mapping of names to stages, with at least one stage"
            message += _stages_example(node.plain())
            self._validator.add(self._tree, Problem(("stages",), message, code="E008"))
            return
        stages = self._joined(node.value)
        for name, below in stages.items():
            if is_removal(below):
                continue
            if not STAGE_NAME.fullmatch(name):
                message = (
                    f"invalid stage name {format_value(name)}: must match [a-z][a-z0-9_-]*, "
                    f"at most {MAX_NAME_LENGTH} characters"
                )
                self._add("E106", ("stages", name), message, _as_name(name))
            if _is_only_in_base(below, self._tree):
                own = Path(self._tree.place.file).name
                message = f"stage {name!r} of a base has no `kind`, and {own} does not define it"
                self._add("E102", ("stages", name), message)
                continue
            self._checked[name] = self._check_stage(name, below)
        repaired = {name: it.node for name, it in self._checked.items()}
        whole = replace(node, value={**stages, **repaired})
        self._tree = self._tree.put(("stages",), whole)

    def _check_environment(self) -> None:
        """Refuse environment variables in anything but a URL."""
        for dotted in sorted(self._composition.environment):
            path = tuple(map(as_index, dotted.split(".")))
            if path[0] == "vars" or self._tree.at(path) is None:
                continue
            node = self._tree.at(path[:2]) if path[0] == "stages" else None
            kind = node.child("kind") if node is not None else None
            cls = stage_kinds().get(str(kind.value)) if kind is not None else Experiment
            found = field_at(cls, path[2:] if kind is not None else path) if cls else None
            if found is None or Url not in get_args(found.info.annotation):
                message = (
                    "an environment variable may only stand in a URL, such as `url` of `fetch`"
                )
                hint = "its value is read when the file is requested, and is never recorded"
                self._add("E301", path, f"{message}: {hint}")

    def _joined(self, stages: Mapping[str, Node]) -> Mapping[str, Node]:
        """The stages, with those of bases merged into stages that misspell their names."""
        bases = [name for name, node in stages.items() if _is_elsewhere(node, self._tree)]
        joined = dict(stages)
        for name, node in stages.items() if self._validator.can_compare(len(bases)) else ():
            if not isinstance(node.value, dict) or any(
                _is_elsewhere(it, self._tree) for it in (node, *node.value.values())
            ):
                continue
            free = [base for base in bases if base in joined]
            if "kind" in node.value:
                free = [base for base in free if joined[base].child("kind") is None]
            if (meant := nearest(name, free)) is not None:
                message = f"stage {name!r} not found in the bases, and this part has no `kind`"
                self._add("E102", ("stages", name), message, meant)
                joined[meant] = merge(joined[meant], joined.pop(name))
        return joined

    def _check_stage(self, name: str, node: Node) -> Checked:
        where = ("stages", name)
        if not isinstance(node.value, dict):
            meant = meant_kind(str(node.value), ()) if isinstance(node.value, str) else None
            example = f" such as {{kind: {meant.name}, …}}" if meant else " with a `kind`"
            message = f"stage {name!r} must be a mapping{example}, not {format_value(node.value)}"
            self._add("E008", where, message)
            return Checked(None, node, node)
        node = self._with_kind(node, where)
        kind, kinds = node.child("kind"), stage_kinds()
        known = ", ".join(kinds)
        if kind is None or kind.value is None:
            self._add("E102", where, f"stage {name!r} requires 'kind', one of {known}")
        elif not isinstance(kind.value, str):
            message = f"kind must be one of {known}, not {format_value(kind.value)}"
            self._add("E105", (*where, "kind"), message)
        elif kind.value in kinds:
            return self._validator.check(kinds[kind.value], node, where)
        else:
            assert isinstance(node.value, dict)
            meant = meant_kind(kind.value, node.value.keys())
            message = f"unknown kind {format_value(kind.value)}; known kinds: {known}"
            self._add("E105", (*where, "kind"), message, meant.name if meant else None)
            if meant is not None and meant.is_typo:
                node = node.put(("kind",), replace(kind, value=meant.name))
                return self._validator.check(kinds[meant.name], node, where)
        return Checked(None, node, node)

    def _with_kind(self, node: Node, where: KeyPath) -> Node:
        """The stage with a misspelled `kind` fixed."""
        assert isinstance(node.value, dict)
        if "kind" in node.value:
            return node
        texts = [key for key, below in node.value.items() if isinstance(below.value, str)]
        typos = [key for key in texts if nearest(key, ["kind"]) or "kind" in canonical_names(key)]
        if not typos:
            return node
        path, message = (*where, typos[0]), unknown_key(typos[0], where)
        self._validator.add(self._tree, Problem(path, message, "kind", "E101", at_key=True))
        return node.put((typos[0],), node.child(typos[0]), name="kind")

    def _check_head(self) -> Experiment | None:
        """The fields of the experiment, with its valid stages."""
        stages = {name: it.spec for name, it in self._checked.items()}
        # If there are none, that is reported already.
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
        """Check the references of a stage; return True if one cannot be resolved."""
        checked = self._checked[name]
        lost, typos = False, []
        for path, ref in checked.spec.refs().items():
            if is_about(path, "", checked.assumed):
                lost = True
                continue
            problem = reference_problem(name, path, stages, self._validator.can_compare)
            if problem is not None:
                self._validator.add(self._tree, problem.below("stages", name))
                meant = reference_meant(ref, problem)
                lost = lost or meant is None
                typos += [(path, ref, meant)] if meant else []
        for path, ref, meant in typos:
            checked = checked.with_reference(path, meant, is_key=is_key(path, ref))
        if typos:
            spec = self._validator.read(type(checked.spec), checked.part)
            self._checked[name] = replace(checked, spec=spec)
            self._tree = self._tree.put(("stages", name), checked.node)
        return lost or self._checked[name].spec is None

    def _ask(self, name: str, stages: Mapping[str, Stage]) -> Stage | None:
        """The stage without the fields that break its own rules; None if it is invalid then."""
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

    def _errors(self) -> tuple[Diagnostic, ...]:
        blamed = (with_variable_places(one, self._composition) for one in self._validator.found)
        return in_order(without_echoes([*self._composition.recoverable, *blamed]), str(self._path))

    def _add(self, code: str, path: KeyPath, message: str, suggestion: str | None = None) -> None:
        self._validator.add(self._tree, Problem(path, message, suggestion, code))


def _is_elsewhere(node: Node, root: Node) -> bool:
    place = node.key_place
    return place is not None and not place.is_override and place.file != root.place.file


def _is_only_in_base(node: Node, root: Node) -> bool:
    """True if it is a part of a stage of a base that no other file completes."""
    return _is_elsewhere(node, root) and isinstance(node.value, dict) and "kind" not in node.value


def _stages_example(stages: Any) -> str:
    """The first stage of a list as a mapping of its name; empty if it has none."""
    first = stages[0] if isinstance(stages, (tuple, list)) and stages else None
    if not isinstance(first, dict) or not first.keys() >= {"name", "kind"}:
        return ""
    return f", such as {{{first['name']}: {{kind: {first['kind']}, …}}}}"


def _as_name(name: str) -> str | None:
    """The name with invalid characters replaced, as a suggestion."""
    plain = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[:MAX_NAME_LENGTH]
    return plain if STAGE_NAME.fullmatch(plain) else None
