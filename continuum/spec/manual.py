"""The manual of the spec: every kind and field as the JSON Schema describes it, found by name."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from continuum.fields import ROLE, UNIT
from continuum.spec.schema import STAGE, experiment_schema
from continuum.spec.schema_fields import DEFINITIONS, VARIABLE, WHOLE_VARIABLE, Schema, types_of
from continuum.spec.schema_rules import COMPLETE

MANY_CHOICES = 12
"""More choices than this are counted, not listed, in a sentence."""
CONCEPTS = {
    "identity": "A role: the field decides what is made. It is part of the stage's fingerprint, "
    "and a stage whose fingerprint changed runs again.",
    "cosmetic": "A role: the field is for readers; changing it changes nothing.",
    "runtime": "A role, and the field that holds most of it: how the work is done. Changing it "
    "makes nothing run again.",
    "amount": "A part of a run: `100` counts optimizer steps, `5%` is a share of the run, "
    "`{tokens: 300k}` counts tokens.",
    "count": "A whole number: `1000`, `1_000_000`, `300k`, `1.5M`, `2B`.",
    "reference": "The name of another stage; of one that trains, `name@step-500` selects a "
    "checkpoint and `name@final` (or the name alone) the last.",
    "variable": "`${name}` stands for a value of `vars`, wherever a single value may stand; `$${` "
    "is a plain `${`.",
    "base": "A file named in `extends`: what it says holds unless it is said again. It may leave "
    "out anything, also `continuum` and `name`.",
}
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "a mapping",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
MAX_BOUND = 10**15
"""Larger bounds only keep absurd values out; they would not help a reader."""


@dataclass(frozen=True)
class Field:
    """One field of the spec, in every kind that has the same."""

    path: str
    """Dotted, below the stage or the experiment: `optimizer.lr`."""
    kinds: tuple[str, ...]
    """The kinds that have it; none for a field of the experiment."""
    type: str
    """In words."""
    is_required: bool
    default: Any
    role: str
    unit: str | None
    description: str
    examples: tuple[Any, ...]
    choices: tuple[Any, ...]
    """All values it may have, where they are listed."""
    below: tuple[str, ...]
    """The fields of the mapping it holds."""


@dataclass(frozen=True)
class Kind:
    """A kind of stage."""

    name: str
    summary: str
    description: str
    fields: tuple[str, ...]


@cache
def all_fields() -> tuple[Field, ...]:
    """Every field of the experiment and of all kinds; what is the same in several stands once."""
    schema = experiment_schema()
    found = list(_fields_of(schema, schema.get("else", {}), "", ()))
    for kind, name in _definitions_of_kinds().items():
        found += _fields_of(_definition(name), _definition(name + COMPLETE), "", (kind,))
    merged: dict[str, Field] = {}
    for field in found:
        key = repr(replace(field, kinds=(), is_required=bool(field.kinds) and field.is_required))
        if key in merged and field.kinds:
            field = replace(field, kinds=(*merged[key].kinds, *field.kinds))
        merged[key] = field
    return tuple(merged.values())


@cache
def all_kinds() -> tuple[Kind, ...]:
    """Every kind of stage."""
    kinds = []
    for kind, name in _definitions_of_kinds().items():
        schema = _definition(name)
        summary = schema["properties"]["kind"]["description"]
        fields = tuple(schema["properties"])
        kinds.append(Kind(kind, summary, schema.get("description", ""), fields))
    return tuple(kinds)


def find_fields(name: str) -> list[Field]:
    """The fields that a name means: a path below a stage, a kind or the experiment, or its end.

    `stages.first.optimizer.lr`, `pretrain.optimizer.lr`, `optimizer.lr` and `lr` all lead to it.
    """
    path = [part for part in re.split(r"[.\[\]]+", name) if part and not part.isdecimal()]
    kinds = _definitions_of_kinds()
    if len(path) > 1 and path[0] == "stages":
        path = path[1:] if path[1] in kinds else path[2:]
    fields = list(all_fields())
    if path and path[0] in kinds:
        kind, path = path[0], path[1:]
        fields = [replace(field, kinds=(kind,)) for field in fields if kind in field.kinds]
    wanted = ".".join(path)
    exact = [field for field in fields if field.path == wanted]
    return exact or [field for field in fields if wanted and field.path.endswith(f".{wanted}")]


def as_json(entry: Field | Kind) -> dict[str, Any]:
    """An entry as `--json` prints it."""
    return asdict(entry)


def _fields_of(
    schema: Schema, whole: Schema, above: str, kinds: tuple[str, ...]
) -> Iterator[Field]:
    for name, field in schema.get("properties", {}).items():
        mappings = list(_mappings_in(field))
        yield Field(
            path=above + name,
            kinds=kinds,
            type=_in_words(field),
            is_required=name in whole.get("required", ()) or (name == "kind" and not above),
            default=field.get("default"),
            role=field[ROLE],
            unit=field.get(UNIT),
            description=field.get("description", ""),
            examples=tuple(_examples_of(field)),
            choices=tuple(_choices_in(field)),
            below=tuple(key for mapping, _ in mappings for key in mapping["properties"]),
        )
        for mapping, needs in mappings:
            yield from _fields_of(mapping, needs, f"{above}{name}.", kinds)


def _mappings_in(schema: Schema) -> Iterator[tuple[Schema, Schema]]:
    """The mappings with named keys that a value may be, each with what a whole one needs."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(DEFINITIONS)
        for below, _ in _mappings_in(_definition(name)):
            yield below, _definition(name.partition(".")[0] + COMPLETE)
    elif "anyOf" in schema:
        for alternative in schema["anyOf"]:
            yield from _mappings_in(alternative)
    elif "items" in schema:
        yield from _mappings_in(schema["items"])
    elif "properties" in schema:
        yield schema, {}


def _examples_of(schema: Schema) -> list[Any]:
    """Its own, or else those of what it refers to."""
    if "examples" in schema or "$ref" not in schema:
        found: list[Any] = schema.get("examples", [])
        others = (_examples_of(below) for below in schema.get("anyOf", ()) if not found)
        return found or next((examples for examples in others if examples), [])
    return _examples_of(_definition(schema["$ref"].removeprefix(DEFINITIONS)))


def _choices_in(schema: Schema) -> Iterator[Any]:
    if "$ref" in schema:
        schema = _definition(schema["$ref"].removeprefix(DEFINITIONS))
    if "const" in schema:
        yield schema["const"]
    yield from schema.get("enum", ())
    for alternative in schema.get("anyOf", ()):
        yield from _choices_in(alternative)


def _in_words(schema: Schema) -> str:
    """What a value may be: `a number, above 0`, `one of auto, cpu, cuda`, `null`."""
    if "anyOf" in schema:
        alternatives = [below for below in schema["anyOf"] if not _is_variable(below)]
        return " or ".join(dict.fromkeys(_in_words(below) for below in alternatives))
    if "$ref" in schema:
        return _in_words(_definition(schema["$ref"].removeprefix(DEFINITIONS)))
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return _choice_in_words(schema["enum"])
    words = [_type_in_words(name, schema) for name in types_of(schema)]
    return " or ".join(word for word in words if word) or "any value"


def _type_in_words(name: str, schema: Schema) -> str:
    if name == "array":
        return f"a list, each {_in_words(schema['items'])}"
    if name == "string" and schema.get("pattern") == WHOLE_VARIABLE:
        return ""  # the variable that may stand for anything
    if name == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"a mapping to {_in_words(schema['additionalProperties'])}"
    if name in ("integer", "number"):
        bounds = [
            f"{word} {schema[key]:,}"
            for key, word in _BOUNDS.items()
            if key in schema and schema[key] < MAX_BOUND
        ]
        return f"{_TYPES[name]} ({', '.join(bounds)})" if bounds else _TYPES[name]
    return _TYPES[name]


def _choice_in_words(choices: list[Any]) -> str:
    if len(choices) > MANY_CHOICES:
        return f"one of {len(choices)} names"
    return f"one of {', '.join(map(str, choices))}"


def _is_variable(schema: Schema) -> bool:
    return schema.get("$ref") == DEFINITIONS + VARIABLE


def _definition(name: str) -> Schema:
    found: Schema = experiment_schema()["$defs"].get(name, {})
    return found


def _definitions_of_kinds() -> dict[str, str]:
    """Under which name each kind is defined."""
    branches = [branch for branch in _definition(STAGE)["allOf"] if "required" in branch["if"]]
    return {
        branch["if"]["properties"]["kind"]["const"]: branch["then"]["$ref"].removeprefix(
            DEFINITIONS
        )
        for branch in branches
    }
