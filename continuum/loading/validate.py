"""Validation that repairs: every error with its place, clear misspellings applied as they are met.

A misspelt key would otherwise cost the reader twice: the known key would be missing too, and what
stands below it would go unchecked until the next attempt. So an error whose meaning is clear is
noted and applied, and the value is validated again. When nothing is clear any more, what is wrong
is noted and taken out, so that the rules between the other fields can still be asked.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from continuum.experiment.amounts import Amount
from continuum.experiment.fields import BY_FORM, Ref, Spec
from continuum.experiment.one_of import OneOf
from continuum.experiment.stage import Stage
from continuum.loading.aliases import SYNONYMS
from continuum.loading.diagnostics import MAX_MISTAKES, Diagnostic, SpecError
from continuum.loading.keys import (
    KeyPath,
    clear_slips,
    field_at,
    meant_key,
    models_in,
    names_at,
    suggest,
)
from continuum.loading.messages import bound_text, comma_hint, name_of, owner_of, quotes_hint, show
from continuum.loading.yaml import Node
from continuum.problems import Problem
from continuum.stages import stage_kinds
from continuum.suggestions import nearest

WRONG_TYPE = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "ref_type": "the name of a stage",
    "model_name_type": "the name of a LitGPT model",
}
_BOUNDS = {
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than": "below",
    "less_than_equal": "at most",
}
_UNITS = {
    "too_short": "items",
    "too_long": "items",
    "string_too_short": "letters",
    "string_too_long": "letters",
}
_AMOUNT_FORMS = ("amount_format", "count_format")
_AMOUNT = "should be a number of steps, 5%, or {tokens: 300k}"
_YES_AND_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_YES_AND_NO_ARE_TEXT = "; yes, no, on and off are text since YAML 1.2"
ONLY_HEAD = ("continuum", "seed", "seeds", "vars", "extends")
"""Keys at the top of a file that mean nothing further in."""
MAX_COMPARED = 30_000
"""Known words that the wrong ones of a document are compared with, in all."""
MAX_ROUNDS = 50
"""Times that a value is repaired."""
KEYS_OF_A_KIND = 100
"""About as many, further in and all."""
EXTRA = "extra_forbidden"


@dataclass(frozen=True)
class Found:
    """An error in a value, and how the value is repaired where that is clear."""

    path: KeyPath
    """Below the model."""
    diagnostic: Diagnostic
    rename: str | None = None
    """The key that is meant."""
    instead: Any = None
    """The value that is meant."""

    @property
    def is_clear(self) -> bool:
        return self.rename is not None or self.instead is not None


@dataclass(frozen=True)
class Checked:
    """A value of the document after validation."""

    spec: Any
    """None where it cannot be read, whatever is taken out."""
    node: Node
    """With the clear misspellings applied."""
    part: Node
    """With what is wrong taken out besides: what `spec` was read from."""
    assumed: frozenset[KeyPath] = frozenset()
    """Fields that could not be read: `spec` has other values in their place."""
    unknown: frozenset[KeyPath] = frozenset()
    """Keys that `spec` is without."""

    @property
    def wrong(self) -> frozenset[KeyPath]:
        """What other errors may come from."""
        return self.assumed | self.unknown

    def with_reference(self, path: KeyPath, meant: str, *, is_key: bool) -> "Checked":
        """The value with another reference, a value or the key of a mixture."""
        name = meant if is_key else None

        def change(node: Node) -> Node:
            below = node.at(path)
            if below is None:
                return node
            return node.put(path, below if is_key else replace(below, value=meant), name)

        return replace(self, node=change(self.node), part=change(self.part))


def place_of(tree: Node, problem: Problem, where: KeyPath = ()) -> Diagnostic:
    """The problem at the value (or the key) at its path, or the nearest above that exists.

    Args:
        tree: The value that the problem's path leads through.
        where: The place of `tree` in the document.
    """
    node = tree
    last = problem.path[-1] if problem.path else ""
    is_between_fields = not problem.code
    at_key = problem.at_key or (is_between_fields and repr(last) in problem.message)
    for part in problem.path:
        below = node.child(part)
        if below is None:
            at_key = True
            break
        node = below
    at_key = at_key or isinstance(node.value, (dict, list))
    return Diagnostic(
        problem.topic,
        problem.message,
        node.key_place if at_key and node.key_place else node.place,
        ".".join(map(str, (*where, *problem.path))),
        problem.suggestion,
        problem.severity,
        not problem.is_secret,
    )


def is_about(path: KeyPath, message: str, fields: Collection[KeyPath]) -> bool:
    """Whether a problem may only be there because of what these fields are."""
    names = {str(one[-1]) for one in fields}
    is_near = any(path[: len(one)] == one or (path and one[: len(path)] == path) for one in fields)
    return is_near or bool(names & set(re.findall(r"\w+", message)))


@dataclass
class Validator:
    """Validates the parts of one document and collects their errors."""

    folder: Path
    """The experiment's folder."""
    reader: Callable[[dict[str, Any]], dict[str, Any]] = dict
    """What becomes of a mapping before it is validated."""
    found: list[Diagnostic] = field(default_factory=list)
    _words_left: int = MAX_COMPARED

    def add(self, tree: Node, problem: Problem, where: KeyPath = ()) -> None:
        """Note a problem."""
        self._keep(place_of(tree, problem, where))

    def affords(self, num_words: int = KEYS_OF_A_KIND) -> bool:
        """Whether to compare a wrong word with so many."""
        self._words_left -= num_words
        return self._words_left >= 0

    def read(self, cls: type[Spec], node: Node) -> Any:
        """The value in `node`; None where it is wrong, without a word."""
        try:
            return cls.model_validate(self._plain(node), context={"folder": self.folder})
        except ValidationError:
            return None

    def _plain(self, node: Node) -> Any:
        plain = node.plain()
        return self.reader(plain) if isinstance(plain, dict) else plain

    def check(self, cls: type[Spec], node: Node, where: KeyPath = ()) -> Checked:
        """Validate the value in `node`, which stands at `where` in the document."""
        meant: set[KeyPath] = set()
        spec, node, now = self._validate(cls, node, where, meant)
        for _ in range(MAX_ROUNDS):
            clear = [it for it in now if it.is_clear]
            if not clear:
                break
            for it in clear:
                self._keep(it.diagnostic)
                node = _repaired(node, it)
            spec, node, now = self._validate(cls, node, where, meant)
        part, assumed, unknown = node, frozenset[KeyPath](), frozenset[KeyPath]()
        while now:
            for it in now:
                is_meant = it.diagnostic.code == "E102" and it.path in meant
                if not (is_meant or is_about(it.path, it.diagnostic.message, assumed | unknown)):
                    self._keep(it.diagnostic)
            before = part
            unknown |= {it.path for it in now if it.diagnostic.code == "E101"}
            part, now = _without_unknown(part, now)
            for it in now:
                part, taken = without(cls, part, it.path, assumed)
                assumed |= taken
            if part == before:
                break
            spec, part, now = self._validate(cls, part, where, meant)
        return Checked(spec, node, part, assumed, unknown)

    def _validate(
        self, cls: type[Spec], node: Node, where: KeyPath, meant: set[KeyPath]
    ) -> tuple[Spec | None, Node, list[Found]]:
        """The value, the node without what null takes away, and the errors.

        Required keys that an unknown one means are added to `meant`: it is one mistake.
        """
        try:
            context = {"folder": self.folder}
            return cls.model_validate(self._plain(node), context=context), node, []
        except ValidationError as error:
            raw = error.errors(include_url=False, include_input=False)
        about = _Described(self, cls, node, where)
        known = [(about.path_of(one), one) for one in raw]
        taken_away = [path for path, _ in known if _is_taken_away(cls, node, path)]
        if taken_away:
            for path in taken_away:
                node = node.put(path, None)
            return self._validate(cls, node, where, meant)
        unknown = about.unknown_keys([path for path, one in known if one["type"] == EXTRA])
        meant |= {
            (*it.path[:-1], it.diagnostic.suggestion.partition(".")[0])
            for it in unknown
            if it.diagnostic.suggestion
        }
        others = [
            about.error(path, one)
            for path, one in known
            if one["type"] != EXTRA and not (one["type"] == "missing" and path in meant)
        ]
        return None, node, [*unknown, *(it for it in others if it is not None)]

    def _keep(self, diagnostic: Diagnostic) -> None:
        if len(self.found) >= MAX_MISTAKES:
            many = f"more than {MAX_MISTAKES:,} mistakes; the others are not told"
            raise SpecError([*self.found, Diagnostic("E007", many, diagnostic.place)])
        self.found.append(diagnostic)


def _is_taken_away(cls: type[Spec], node: Node, path: KeyPath) -> bool:
    """Whether a null resets a field to its default, or removes a key of a base."""
    below, known = node.at(path), field_at(cls, path)
    if below is None or below.value is not None:
        return False
    if known is None:
        return below.removes
    return not known.info.is_required() and (below.removes or below.place.is_override)


def _repaired(node: Node, it: Found) -> Node:
    value = node.at(it.path)
    assert value is not None
    if it.rename is None:
        return node.put(it.path, replace(value, value=it.instead))
    # What is null is left out: that a field cannot be so is no second mistake.
    return node.put(it.path, value if value.value is not None else None, name=it.rename)


def without(
    cls: type[Spec], node: Node, path: KeyPath, assumed: Collection[KeyPath]
) -> tuple[Node, frozenset[KeyPath]]:
    """The value with what is at a path taken out, and the field that has another value then."""
    known = None
    while path and known is None:
        known = field_at(cls, path) if isinstance(path[-1], str) and path not in assumed else None
        path = path if known else path[:-1]
    if known is None or node.at(path[:-1]) is None:
        return node, frozenset()
    example = None
    if known.info.is_required():
        value = known.info.examples[0] if known.info.examples else _example(known.info.annotation)
        example = Node.of(value, node.place)
    return node.put(path, example), frozenset([path])


def _without_unknown(node: Node, found: list[Found]) -> tuple[Node, list[Found]]:
    """The value without its unknown keys, and the other errors."""
    unknown = [it.path for it in found if it.diagnostic.code == "E101"]
    for above in {path[:-1] for path in unknown}:
        mapping, names = node.at(above), {path[-1] for path in unknown if path[:-1] == above}
        assert mapping is not None
        assert isinstance(mapping.value, dict)
        kept = {key: value for key, value in mapping.value.items() if key not in names}
        less = replace(mapping, value=kept)
        node = node.put(above, less) if above else less
    return node, [it for it in found if it.diagnostic.code != "E101"]


def _example(annotation: Any) -> Any:
    """A value that a type takes, if it is a simple one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    for _, model in models_in(annotation):
        own = [(info.alias or name, info) for name, info in model.model_fields.items()]
        needed = [(name, info) for name, info in own if info.is_required()]
        return {n: i.examples[0] if i.examples else _example(i.annotation) for n, i in needed}
    if origin is Literal:
        return arguments[0]
    if origin in (tuple, list):
        return (_example(arguments[0]),)
    if arguments and origin is not Ref:
        return _example(arguments[0])
    return "unknown" if issubclass(origin or annotation, str) else 1


@dataclass(frozen=True)
class _Described:
    """Pydantic's errors about one value in the user's words."""

    validator: Validator
    cls: type[Spec]
    node: Node
    where: KeyPath

    def path_of(self, error: ErrorDetails) -> KeyPath:
        """Where in the document the error is, without Pydantic's tags of alternatives."""
        node: Node | None = self.node
        path: KeyPath = ()
        for part in (part for part in error["loc"] if not str(part).startswith("[")):
            if node is None or not isinstance(node.value, (dict, list)):
                break  # below a value in its short form
            path, node = (*path, part), node.child(part)
        return path

    def unknown_keys(self, paths: list[KeyPath]) -> list[Found]:
        found = []
        for above in dict.fromkeys(path[:-1] for path in paths):
            known, mapping = self._known(above), self.node.at(above)
            keys = mapping.value if mapping and isinstance(mapping.value, dict) else {}
            slips = clear_slips(keys, known)
            names = [path[-1] for path in paths if path[:-1] == above]
            found += [self._unknown_key((*above, it), known, slips.get(str(it))) for it in names]
        return found

    def error(self, path: KeyPath, error: ErrorDetails) -> Found | None:
        kind, context = error["type"], error.get("ctx") or {}
        if kind == "missing":
            owner = owner_of((*self.where, *path[:-1]))
            return self._found("E102", path, f"{owner} needs {path[-1]!r}{self._meaning(path)}")
        if kind in WRONG_TYPE:
            return self._wrong_type(path, kind)
        if kind == "literal_error":
            return self._not_among(path, error["msg"])
        if kind == "form":
            suggestion = suggest(context["name"], context["known"])
            return self._found("E104", (*path, context["key"]), error["msg"], suggestion)
        if kind == "model_name":
            return self._found("E104", path, error["msg"], context["suggestion"])
        value = self._value(path)
        if kind == "too_short" and isinstance(value, list) and len(value) >= context["min_length"]:
            return None  # Pydantic counts the sound items; the others are told anyway
        message = self._describe_value(path, error)
        named = re.match(r"'(\w+)'", error["msg"])  # what a whole mapping's error is about first
        if named and self.node.at((*path, named[1])) is not None:
            path = (*path, named[1])
        return self._found("E104", path, message, context.get("suggestion"))

    def _found(
        self, code: str, path: KeyPath, message: str, suggestion: str | None = None
    ) -> Found:
        placed = place_of(self.node, Problem(path, message, suggestion, code), self.where)
        value = self._value(path)
        is_slip = isinstance(value, str) and suggestion and nearest(value, [suggestion])
        return Found(path, placed, instead=suggestion if is_slip else None)

    def _known(self, above: KeyPath) -> Mapping[str, bool]:
        """The keys that may stand in a mapping, of the form that it has."""
        node = self.node.at(above)
        found = field_at(self.cls, above) if above else None
        if found is None or node is None or not isinstance(node.value, dict):
            return names_at(self.cls, above)
        for model in get_args(found.info.annotation) or (found.info.annotation,):
            if isinstance(model, type) and issubclass(model, OneOf):
                return names_at(self.cls, above, model.form_of(node.plain()))
        return names_at(self.cls, above)

    def _unknown_key(self, path: KeyPath, known: Mapping[str, bool], slip: str | None) -> Found:
        *above, name = path
        owner = owner_of((*self.where, *above))
        message, suggestion = unknown_key(name, (*self.where, *above)), slip
        if slip is None and (other := field_at(self.cls, path)) is not None:  # of another form
            mapping = self._value(tuple(above))
            others = ", ".join(repr(key) for key in mapping if key != name)
            message = f"{name!r} cannot stand beside {others} in {owner}"
            if issubclass(other.model, OneOf):
                message = f"{owner} has no {name!r}; {other.model.__name__} has"
        elif slip is None:
            hint = home_of(self.cls, str(name)) or comma_hint(str(name))
            if not hint and self.validator.affords():
                suggestion = meant_key(self.cls, self.where, tuple(above), str(name), tuple(known))
            hint = hint or ("" if suggestion else f"; known: {', '.join(known)}")
            message += hint
        problem = Problem(path, message, suggestion, "E101", at_key=True)
        return Found(path, place_of(self.node, problem, self.where), rename=slip)

    def _own_names(self, path: KeyPath) -> Collection[str]:
        """The keys of a mapping, of one of several forms those of all."""
        found = field_at(self.cls, path)
        kind = found.info.annotation if found is not None and path else None
        if isinstance(kind, type) and issubclass(kind, OneOf):
            return kind.model_fields
        return names_at(self.cls, path)

    def _wrong_type(self, path: KeyPath, kind: str) -> Found:
        value, wanted = self._value(path), WRONG_TYPE[kind]
        found = field_at(self.cls, path)
        if found is not None and BY_FORM in found.info.metadata:
            wanted += " or a mapping"
        elif keys := self._own_names(path):
            wanted = wanted.replace("a mapping", f"a mapping with {', '.join(keys)}")
        hint, suggestion, meant = quotes_hint(value, (kind,)), None, None
        if kind == "bool_type" and (suggestion := _YES_AND_NO.get(str(value).lower())):
            hint, meant = _YES_AND_NO_ARE_TEXT, suggestion == "true"
        message = f"{name_of((*self.where, *path))} should be {wanted}, not {show(value)}{hint}"
        return replace(self._found("E103", path, message, suggestion), instead=meant)

    def _not_among(self, path: KeyPath, said: str) -> Found:
        allowed = [text.strip("'") for text in re.findall(r"'[^']*'|\d+", said)]
        value = self._value(path)
        wanted = ("one of " if len(allowed) > 1 else "") + ", ".join(allowed)
        if keys := names_at(self.cls, path):  # the field may hold a mapping instead
            wanted += f", or a mapping with one of {', '.join(keys)}"
        message = f"{name_of((*self.where, *path))} should be {wanted}, not {show(value)}"
        synonym = SYNONYMS.get(str(value).lower())
        if synonym in allowed and isinstance(value, str) and value.lower() in _YES_AND_NO:
            message += _YES_AND_NO_ARE_TEXT
        is_number = isinstance(value, int) and not isinstance(value, bool)
        is_word = isinstance(value, str) or (is_number and len(allowed) > 1)
        similar = suggest(str(value), allowed) if is_word else None
        if synonym in allowed:
            return replace(self._found("E104", path, message, synonym), instead=synonym)
        return self._found("E104", path, message, similar)

    def _describe_value(self, path: KeyPath, error: ErrorDetails) -> str:
        name, value, kind = name_of((*self.where, *path)), self._value(path), error["type"]
        said, context = error["msg"].replace("{{", "{").replace("}}", "}"), error.get("ctx") or {}
        if kind in _BOUNDS:
            (bound,) = context.values()
            sign = "%" if isinstance(value, str) and value.rstrip().endswith("%") else ""
            said = f"should be {_BOUNDS[kind]} {bound_text(bound)}{sign}"
        elif kind in _UNITS:
            return f"{name} {_length_words(kind, context)}"
        elif kind == "string_pattern_mismatch":
            return f"{name} cannot be {show(value)}{self._meaning(path)}"
        elif kind in _AMOUNT_FORMS and not isinstance(value, dict):
            found = field_at(self.cls, path)
            is_amount = found and Amount in [cls for _, cls in models_in(found.info.annotation)]
            said = _AMOUNT if is_amount else said
        said = said.removeprefix("Input ")
        return f"{name} {said}, not {show(value)}" if said[:6] == "should" else f"{name}: {said}"

    def _value(self, path: KeyPath) -> Any:
        node = self.node.at(path)
        return node.value if node is not None else None

    def _meaning(self, path: KeyPath) -> str:
        """The first sentence of the field's documentation, as an addition to a message."""
        found = field_at(self.cls, path)
        sentence = re.split(r"\.\s", found.doc)[0].rstrip(".") if found else ""
        return f" ({sentence})" if sentence else ""


def unknown_key(key: str | int, owner: KeyPath) -> str:
    """The message about an unknown key."""
    return f"unknown key {key!r} in {owner_of(owner)}"


def home_of(cls: type[Spec], name: str) -> str:
    """For a key at the top that belongs in stages, of which kinds, or the reverse; else empty."""
    if issubclass(cls, Stage):
        if name in cls.refused:
            return f"; {cls.refused[name]}"
        return "; it belongs at the top of the file, beside `stages`" if name in ONLY_HEAD else ""
    homes = [kind for kind, model in stage_kinds().items() if name in names_at(model, ())]
    return f"; it belongs in a stage of kind {' or '.join(homes)}" if homes else ""


def _length_words(kind: str, context: dict[str, Any]) -> str:
    unit, least = _UNITS[kind], context.get("min_length")
    if least is None:
        return f"may have at most {context['max_length']} {unit}"
    return "may not be empty" if least == 1 else f"needs at least {least} {unit}"
