"""The manual of the spec: every kind and field, found by name, straight from the models."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import ROLE, UNIT, Spec
from continuum.loading import known
from continuum.loading.json_schema import DEFINITIONS, EXTENDS, Generator, Schema, kind_summary
from continuum.stages import stage_kinds

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
    found = [*_fields_of(Experiment, ()), _field("extends", EXTENDS, {}, ())]
    for kind, cls in stage_kinds().items():
        found += _fields_of(cls, (kind,))
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
    return tuple(
        Kind(kind, kind_summary(cls), cls.__doc__ or "", tuple(known.names_at(cls, ())))
        for kind, cls in stage_kinds().items()
    )


def find_fields(name: str) -> list[Field]:
    """The fields that a name means: a path below a stage, a kind or the experiment, or its end.

    `stages.first.optimizer.lr`, `pretrain.optimizer.lr`, `optimizer.lr` and `lr` all lead to it.
    """
    path = [part for part in re.split(r"[.\[\]]+", name) if part and not part.isdecimal()]
    kinds = stage_kinds()
    if len(path) > 1 and path[0] == "stages":
        path = path[1:] if path[1] in kinds else path[2:]
    fields = list(all_fields())
    if path and path[0] in kinds:
        kind, path = path[0], path[1:]
        fields = [replace(field, kinds=(kind,)) for field in fields if kind in field.kinds]
    wanted = ".".join(path)
    exact = [field for field in fields if field.path == wanted]
    return exact or [field for field in fields if wanted and field.path.endswith(f".{wanted}")]


def _fields_of(cls: type[Spec], kinds: tuple[str, ...]) -> Iterator[Field]:
    roles: dict[tuple[str, ...], str] = {}
    for way, (first, *_) in known.fields(cls).items():
        path = _named(way)
        extra = first.info.json_schema_extra
        own = str(extra.get(ROLE, "identity")) if isinstance(extra, dict) else "identity"
        above = roles.get(path[:-1], "identity")
        roles[path] = own if above == "identity" else above
        schema = _schema_of(first.model)
        made = _field(".".join(path), schema["properties"][first.name], schema, kinds)
        below = (at[-1] for at in known.fields(cls) if at and _named(at[:-1]) == path)
        made = replace(made, role=roles[path], below=tuple(dict.fromkeys(below)))
        if kinds and path == ("kind",):
            summary = kind_summary(stage_kinds()[kinds[0]])
            yield replace(made, is_required=True, default=None, description=summary)
        else:
            yield replace(made, is_required=first.info.is_required())


def _named(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without the places of items and free keys."""
    return tuple(part for part in path if part != known.ANY)


@cache
def _schema_of(model: type[Spec]) -> Schema:
    return model.model_json_schema(schema_generator=Generator)


def _field(path: str, schema: Schema, whole: Schema, kinds: tuple[str, ...]) -> Field:
    definitions = whole.get("$defs", {})
    inner = list(_alternatives(schema, definitions))
    told: Schema = {}
    for one in (*reversed(inner), schema):
        told |= {key: one[key] for key in ("description", "examples", UNIT) if key in one}
    return Field(
        path=path,
        kinds=kinds,
        type=" or ".join(dict.fromkeys(_in_words(one, definitions) for one in inner)),
        is_required=False,
        default=schema.get("default"),
        role=schema.get(ROLE, "identity"),
        unit=told.get(UNIT),
        description=" ".join(told.get("description", "").split()),
        examples=tuple(told.get("examples", ())),
        choices=tuple(value for one in inner for value in _choices(one)),
        below=(),
    )


def _alternatives(schema: Schema, definitions: dict[str, Schema]) -> Iterator[Schema]:
    """The schemas of one type that a value may have."""
    if "$ref" in schema:
        yield from _alternatives(definitions[schema["$ref"].removeprefix(DEFINITIONS)], definitions)
        return
    below = schema.get("anyOf") or schema.get("oneOf")
    for one in below or ():
        yield from _alternatives(one, definitions)
    if not below:
        yield schema


def _choices(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _in_words(schema: Schema, definitions: dict[str, Schema]) -> str:
    """What a value may be: `a number (above 0)`, `one of auto, cpu, cuda`, `null`."""
    if choices := _choices(schema):
        if len(choices) > MANY_CHOICES:
            return f"one of {len(choices)} names"
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(str, choices))
    named = schema.get("type", [])
    types = [named] if isinstance(named, str) else named
    return " or ".join(_type_in_words(name, schema, definitions) for name in types) or "any value"


def _type_in_words(name: str, schema: Schema, definitions: dict[str, Schema]) -> str:
    free = next(iter(schema.get("patternProperties", {}).values()), None)
    inner = schema.get("items") if name == "array" else schema.get("additionalProperties", free)
    if isinstance(inner, dict) and name in ("array", "object"):
        below = _alternatives(inner, definitions)
        words = " or ".join(dict.fromkeys(_in_words(one, definitions) for one in below))
        return f"a list, each {words}" if name == "array" else f"a mapping to {words}"
    if name == "array":
        return "a list"
    bounds = [
        f"{word} {schema[key]:,}"
        for key, word in _BOUNDS.items()
        if name in ("integer", "number") and key in schema and schema[key] < MAX_BOUND
    ]
    return f"{_TYPES[name]} ({', '.join(bounds)})" if bounds else _TYPES[name]
