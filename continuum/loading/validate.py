"""Validation with typo recovery: report every error with its place, and fix clear typos on the way.

A misspelled key would otherwise give two errors, since the known key is missing too, and the values
below it would not be checked. So a clear typo is reported and fixed, and the value is validated
again. Then other errors are reported and removed, so that the rules between fields can be checked.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from continuum.errors import Problem
from continuum.experiment.amounts import Amount
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import BY_FORM, Spec
from continuum.experiment.one_of import OneOf
from continuum.experiment.stage import Stage
from continuum.loading.aliases import note_on, our_names, synonym_of
from continuum.loading.diagnostics import MAX_ERRORS, Diagnostic, SpecError
from continuum.loading.examples import any_example, own_example, written
from continuum.loading.keys import (
    KeyPath,
    clear_typos,
    field_at,
    meant_key,
    models_in,
    names_at,
    right_place,
    suggest,
)
from continuum.loading.messages import (
    bound_text,
    comma_hint,
    format_value,
    name_of,
    owner_of,
    quotes_hint,
)
from continuum.loading.yaml import Node, Removal, is_removal
from continuum.stages import stage_kinds
from continuum.suggestions import nearest

WRONG_TYPE = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
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
    "greater_than": "greater than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}
_UNITS = {
    "too_short": "items",
    "too_long": "items",
    "string_too_short": "characters",
    "string_too_long": "characters",
}
_AMOUNT_FORMS = ("amount_format", "count_format")
_AMOUNT = "must be a number of steps, 5%, or {tokens: 300k}"
_YES_AND_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_YES_AND_NO_ARE_TEXT = "; yes, no, on and off are strings in YAML 1.2"
HEAD_HINT = "; it belongs at the top level of the file, next to `stages`"
ONLY_HEAD = ("continuum", "seed", "seeds", "vars", "extends")
"""Keys that are only valid at the top level of a file."""
MAX_COMPARED = 30_000
"""Maximum number of comparisons with known words in a document."""
MAX_ROUNDS = 50
"""Maximum number of repairs of a value."""
KEYS_OF_A_KIND = 100
"""About the number of keys of a kind, nested ones included."""
EXTRA = "extra_forbidden"


@dataclass(frozen=True)
class Found:
    """An error in a value, with the repair if it is a clear typo."""

    path: KeyPath
    """Below the model."""
    diagnostic: Diagnostic
    rename: str | None = None
    """The right key."""
    replacement: Any = None
    """The right value."""

    @property
    def is_clear(self) -> bool:
        return self.rename is not None or self.replacement is not None


@dataclass(frozen=True)
class Checked:
    """A value of the document after validation."""

    spec: Any
    """None if it is invalid, whatever is removed."""
    node: Node
    """With the clear typos fixed."""
    part: Node
    """With the errors removed as well: `spec` was read from it."""
    assumed: frozenset[KeyPath] = frozenset()
    """Invalid fields: `spec` has other values for them."""
    unknown: frozenset[KeyPath] = frozenset()
    """Unknown keys, which `spec` does not have."""

    @property
    def wrong(self) -> frozenset[KeyPath]:
        """Fields that may cause other errors."""
        return self.assumed | self.unknown

    def with_reference(self, path: KeyPath, meant: str, *, is_key: bool) -> "Checked":
        """Return the value with another reference: a value, or the key of a mixture."""
        name = meant if is_key else None

        def change(node: Node) -> Node:
            below = node.at(path)
            if below is None:
                return node
            return node.put(path, below if is_key else replace(below, value=meant), name)

        return replace(self, node=change(self.node), part=change(self.part))


def place_of(tree: Node, problem: Problem, where: KeyPath = ()) -> Diagnostic:
    """Return the problem at the place of its value or key, or of the nearest parent that exists.

    Args:
        tree: The value that the path of the problem starts from.
        where: The path of `tree` in the document.
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
    """Return True if these fields may be the only cause of a problem."""
    names = {str(one[-1]) for one in fields}
    is_near = any(path[: len(one)] == one or (path and one[: len(path)] == path) for one in fields)
    return is_near or bool(names & set(re.findall(r"\w+", message)))


@dataclass
class Validator:
    """Validates the parts of one document and collects their errors."""

    folder: Path
    """The experiment's folder."""
    reader: Callable[[dict[str, Any]], dict[str, Any]] = dict
    """Converts a mapping before it is validated."""
    found: list[Diagnostic] = field(default_factory=list)
    _words_left: int = MAX_COMPARED

    def add(self, tree: Node, problem: Problem, where: KeyPath = ()) -> None:
        """Report a problem."""
        self._keep(place_of(tree, problem, where))

    def can_compare(self, num_words: int = KEYS_OF_A_KIND) -> bool:
        """Return True while a wrong word may be compared with so many others."""
        self._words_left -= num_words
        return self._words_left >= 0

    def read(self, cls: type[Spec], node: Node) -> Any:
        """Return the value of `node`; None if it is invalid, without reporting it."""
        try:
            return cls.model_validate(self._plain(node), context={"folder": self.folder})
        except ValidationError:
            return None

    def _plain(self, node: Node) -> Any:
        plain = node.plain()
        return self.reader(plain) if isinstance(plain, dict) else plain

    def check(self, cls: type[Spec], node: Node, where: KeyPath = ()) -> Checked:
        """Validate the value of `node`, which is at the path `where` of the document."""
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
        """The value, the node without removed values, and the errors.

        A missing key that an unknown key is a typo of is added to `meant`: that is one error.
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
        if len(self.found) >= MAX_ERRORS:
            many = f"more than {MAX_ERRORS:,} errors; the rest is not reported"
            raise SpecError([*self.found, Diagnostic("E007", many, diagnostic.place)])
        self.found.append(diagnostic)


def _is_taken_away(cls: type[Spec], node: Node, path: KeyPath) -> bool:
    """True if a null resets a field to its default, or removes a key of a base."""
    below, known = node.at(path), field_at(cls, path)
    if below is None or below.value is not None:
        return False
    if known is None:
        return isinstance(below, Removal)
    return not known.info.is_required() and is_removal(below)


def _repaired(node: Node, it: Found) -> Node:
    value = node.at(it.path)
    assert value is not None
    if it.rename is None:
        return node.put(it.path, replace(value, value=it.replacement))
    # A null is removed: that it is not valid there would be a second error.
    return node.put(it.path, value if value.value is not None else None, name=it.rename)


def without(
    cls: type[Spec], node: Node, path: KeyPath, assumed: Collection[KeyPath]
) -> tuple[Node, frozenset[KeyPath]]:
    """Return the value without what is at a path, and the fields whose value changes."""
    known = None
    while path and known is None:
        known = field_at(cls, path) if isinstance(path[-1], str) and path not in assumed else None
        path = path if known else path[:-1]
    if known is None or node.at(path[:-1]) is None:
        return node, frozenset()
    example = None
    if known.info.is_required():
        value = (
            known.info.examples[0] if known.info.examples else any_example(known.info.annotation)
        )
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


@dataclass(frozen=True)
class _Described:
    """Pydantic's errors for one value as messages about the document."""

    validator: Validator
    cls: type[Spec]
    node: Node
    where: KeyPath

    def path_of(self, error: ErrorDetails) -> KeyPath:
        """The path of the error in the document, without Pydantic's tags of alternatives."""
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
            typos = clear_typos(keys, known)
            names = [path[-1] for path in paths if path[:-1] == above]
            found += [self._unknown_key((*above, it), known, typos.get(str(it))) for it in names]
        return found

    def error(self, path: KeyPath, error: ErrorDetails) -> Found | None:
        kind, context = error["type"], error.get("ctx") or {}
        if kind == "missing":
            owner = owner_of((*self.where, *path[:-1]))
            message = f"{owner} requires {path[-1]!r}{self._meaning(path)}"
            return self._found("E102", path, message)
        if kind in WRONG_TYPE:
            return self._wrong_type(path, kind)
        if kind == "literal_error":
            return self._not_among(path, error["msg"])
        if kind == "form":
            wrong, known = context["name"], context["known"]
            suggestion = synonym_of(wrong, known) or suggest(wrong, known)
            return self._found("E104", (*path, context["key"]), error["msg"], suggestion)
        if kind == "model_name":
            return self._found("E104", path, error["msg"], context["suggestion"])
        if kind == "validation_form":
            return self._found(
                "E104", path, self._describe_value(path, error), self._as_mapping(path)
            )
        value = self._value(path)
        if kind == "too_short" and isinstance(value, list) and len(value) >= context["min_length"]:
            return None  # Pydantic counts valid items only; the others have their own errors
        message = self._describe_value(path, error)
        named = re.match(r"'(\w+)'", error["msg"])  # the key that the error of a mapping is about
        if named and self.node.at((*path, named[1])) is not None:
            path = (*path, named[1])
        meant = self._amount_meant(path) if kind in _AMOUNT_FORMS else None
        return self._found("E104", path, message, context.get("suggestion") or meant)

    def _found(
        self, code: str, path: KeyPath, message: str, suggestion: str | None = None
    ) -> Found:
        placed = place_of(self.node, Problem(path, message, suggestion, code), self.where)
        value = self._value(path)
        is_typo = isinstance(value, str) and suggestion and nearest(value, [suggestion])
        return Found(path, placed, replacement=suggestion if is_typo else None)

    def _known(self, above: KeyPath) -> Mapping[str, bool]:
        """The valid keys of a mapping in the form that it has."""
        node = self.node.at(above)
        found = field_at(self.cls, above) if above else None
        if found is None or node is None or not isinstance(node.value, dict):
            return names_at(self.cls, above)
        for model in get_args(found.info.annotation) or (found.info.annotation,):
            if isinstance(model, type) and issubclass(model, OneOf):
                return names_at(self.cls, above, model.form_of(node.plain()))
        return names_at(self.cls, above)

    def _unknown_key(self, path: KeyPath, known: Mapping[str, bool], typo: str | None) -> Found:
        *above, name = path
        owner = owner_of((*self.where, *above))
        message, suggestion = unknown_key(name, (*self.where, *above)), typo
        if typo is None and (other := field_at(self.cls, path)) is not None:  # of another form
            mapping = self._value(tuple(above))
            others = ", ".join(repr(key) for key in mapping if key != name)
            message = f"{name!r} is not valid together with {others} in {owner}"
            if issubclass(other.model, OneOf):
                message = f"{owner} has no {name!r}; {other.model.__name__} does"
        elif typo is None:
            hint, suggestion = self._home_of(tuple(above), str(name), tuple(known))
            message += hint or ("" if suggestion else f"; known keys: {', '.join(known)}")
        problem = Problem(path, message, suggestion, "E101", at_key=True)
        return Found(path, place_of(self.node, problem, self.where), rename=typo)

    def _home_of(self, above: KeyPath, name: str, known: tuple[str, ...]) -> tuple[str, str | None]:
        """A hint for an unknown key, or the right key; neither if it means nothing here."""
        if above[-1:] == (name,):
            return "; it is nested in itself, so remove one level", None
        note = note_on(name)
        hint = refusal_of(self.cls, name) or comma_hint(name) or (f"; {note}" if note else "")
        if hint or not self.validator.can_compare():
            return hint, None
        if not issubclass(self.cls, Stage) and (hint := stage_with(name)):
            return hint, None
        suggestion = meant_key(self.cls, self.where, above, name, known)
        return ("", suggestion) if suggestion else (_home_elsewhere(self.cls, name), None)

    def _wrong_type(self, path: KeyPath, kind: str) -> Found:
        value, wanted = self._value(path), WRONG_TYPE[kind]
        found = field_at(self.cls, path)
        is_item = bool(path) and isinstance(path[-1], int)
        if found is not None and not is_item and BY_FORM in found.info.metadata:
            wanted += " or a mapping"
        if "a mapping" in wanted or "a list" in wanted:
            wanted = self._with_example(path, wanted)
        hint, suggestion, meant = quotes_hint(value, (kind,)), None, None
        if found is None and (note := note_on(str(path[-1]))):  # a free key
            hint = f"; {note}"
        if kind == "bool_type" and (suggestion := _YES_AND_NO.get(str(value).lower())):
            hint, meant = _YES_AND_NO_ARE_TEXT, suggestion == "true"
        message = (
            f"{name_of((*self.where, *path))} must be {wanted}, not {format_value(value)}{hint}"
        )
        return replace(self._found("E103", path, message, suggestion), replacement=meant)

    def _with_example(self, path: KeyPath, wanted: str) -> str:
        """The words for a mapping or a list, with an example that holds the user's value."""
        found, keys = field_at(self.cls, path), names_at(self.cls, path)
        example = self._own_example(path)
        if example is None and found is not None:
            listed = [*(found.info.examples or ()), keys and any_example(found.info.annotation)]
            if isinstance(path[-1], int):
                listed = [item for it in listed if isinstance(it, (tuple, list)) for item in it]
            is_of_kind = dict if "a mapping" in wanted else (tuple, list)
            example = next((it for it in listed if it and isinstance(it, is_of_kind)), None)
        if self._value(path) is False and found and type(None) in get_args(found.info.annotation):
            wanted += ", or null for none"
        if example is None:
            listing = f"a mapping with {', '.join(keys)}"
            return wanted.replace("a mapping", listing) if keys else wanted
        noun = "a mapping" if isinstance(example, dict) else "a list"
        shown = f"such as {written(example)}"
        return wanted.replace(noun, f"{noun} {shown}") if noun in wanted else f"{wanted}, {shown}"

    def _own_example(self, path: KeyPath) -> Any:
        """A valid value that holds what the user wrote; None if none is found."""
        node, found = self.node.at(path), field_at(self.cls, path)
        if node is None or found is None or not self.validator.can_compare():
            return None
        is_item = isinstance(path[-1], int)
        return own_example(found, node.plain(), self.validator.folder, is_item=is_item)

    def _not_among(self, path: KeyPath, said: str) -> Found:
        allowed = [text.strip("'") for text in re.findall(r"'[^']*'|\d+", said)]
        value = self._value(path)
        wanted = ("one of " if len(allowed) > 1 else "") + ", ".join(allowed)
        if keys := names_at(self.cls, path):  # the field may hold a mapping instead
            wanted += f", or a mapping with one of {', '.join(keys)}"
        message = f"{name_of((*self.where, *path))} must be {wanted}, not {format_value(value)}"
        synonym = synonym_of(value, allowed)
        if synonym is not None and isinstance(value, str) and value.lower() in _YES_AND_NO:
            message += _YES_AND_NO_ARE_TEXT
        is_number = isinstance(value, int) and not isinstance(value, bool)
        is_word = isinstance(value, str) or (is_number and len(allowed) > 1)
        similar = suggest(str(value), allowed) if is_word else None
        if similar is None and synonym is None and keys:
            similar = self._as_mapping(path)
        if synonym is not None:
            return replace(self._found("E104", path, message, synonym), replacement=synonym)
        return self._found("E104", path, message, similar)

    def _as_mapping(self, path: KeyPath) -> str | None:
        """The field with a mapping that holds what the user wrote; None if none is found."""
        example = self._own_example(path)
        return f"{name_of(path)}: {written(example)}" if isinstance(example, dict) else None

    def _amount_meant(self, path: KeyPath) -> str | None:
        """A count, or a part of a run, as it must be written: 0.03 is 3%, `100 steps` is 100."""
        value = self._value(path)
        found = re.fullmatch(r"\s*([0-9][0-9._]*[kKMBT]?)\s*(steps?|tokens?)\s*", str(value))
        if not self._is_amount(path):
            return found and found[1]
        if isinstance(value, float) and 0 < value < 1:
            return f"{100 * value:g}%"
        return found and (found[1] if found[2][0] == "s" else f"{{tokens: {found[1]}}}")

    def _is_amount(self, path: KeyPath) -> bool:
        found = field_at(self.cls, path)
        return found is not None and Amount in [cls for _, cls in models_in(found.info.annotation)]

    def _describe_value(self, path: KeyPath, error: ErrorDetails) -> str:
        name, value, kind = name_of((*self.where, *path)), self._value(path), error["type"]
        said, context = error["msg"].replace("{{", "{").replace("}}", "}"), error.get("ctx") or {}
        if kind in _BOUNDS:
            (bound,) = context.values()
            sign = "%" if isinstance(value, str) and value.rstrip().endswith("%") else ""
            said = f"must be {_BOUNDS[kind]} {bound_text(bound)}{sign}"
        elif kind in _UNITS:
            return f"{name} {_length_words(kind, context)}"
        elif kind == "string_pattern_mismatch":
            return f"invalid {name} {format_value(value)}{self._meaning(path)}"
        elif kind in _AMOUNT_FORMS and not isinstance(value, dict):
            said = _AMOUNT if self._is_amount(path) else said
        said = re.sub("^Input should ", "must ", said)
        is_about_value = said.startswith("must ")
        return f"{name} {said}, not {format_value(value)}" if is_about_value else f"{name}: {said}"

    def _value(self, path: KeyPath) -> Any:
        node = self.node.at(path)
        return node.value if node is not None else None

    def _meaning(self, path: KeyPath) -> str:
        """The first sentence of the field's documentation, to append to a message."""
        found = field_at(self.cls, path)
        sentence = re.split(r"\.\s", found.doc)[0].rstrip(".") if found else ""
        return f" ({sentence})" if sentence else ""


def unknown_key(key: str | int, owner: KeyPath) -> str:
    """Return the message for an unknown key."""
    return f"unknown key {key!r} in {owner_of(owner)}"


def refusal_of(cls: type[Spec], name: str) -> str:
    """Return why a stage does not have a field of another place; empty if there is no reason."""
    if not issubclass(cls, Stage):
        return ""
    if name in cls.refused:
        return f"; {cls.refused[name]}"
    return HEAD_HINT if name in ONLY_HEAD and name not in names_at(cls, ()) else ""


def stage_with(name: str) -> str:
    """Return a hint for a key at the top level that belongs in stages; empty if none has it."""
    for ours in (name, *our_names(name)):
        if ours.partition(".")[0] in names_at(Experiment, ()):
            return ""
        if homes := _homes_of(ours):
            place = min(homes.values(), key=len)
            kinds = " or ".join(kind for kind, there in homes.items() if there == place)
            return f"; it belongs in a stage of kind {kinds}{f', as {place}' * (place != name)}"
    return ""


def _homes_of(name: str) -> Mapping[str, str]:
    """The path of a field in the stages that have it, by their kinds."""
    first, _, rest = name.partition(".")
    found = {kind: right_place(model, (), (), first) for kind, model in stage_kinds().items()}
    return {kind: f"{it}.{rest}" if rest else it for kind, it in found.items() if it is not None}


def _home_elsewhere(cls: type[Spec], name: str) -> str:
    """A hint for a key of a stage that belongs in others; empty if nothing is known."""
    for ours in (name, *our_names(name)):
        for place in dict.fromkeys((ours, *_homes_of(ours).values())):
            if refusal := refusal_of(cls, place.partition(".")[0]):
                return refusal
    return stage_with(name)


def _length_words(kind: str, context: dict[str, Any]) -> str:
    unit, least = _UNITS[kind], context.get("min_length")
    if least is None:
        return f"must have at most {context['max_length']} {unit}"
    return "must not be empty" if least == 1 else f"must have at least {least} {unit}"
