"""The kinds, fields and topics of a spec by name, from the models."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import ROLE, UNIT, Spec
from continuum.loading import keys
from continuum.loading.json_schema import DEFINITIONS, EXTENDS, Generator, Schema, kind_summary
from continuum.stages import stage_kinds

MANY_CHOICES = 12
"""A type with more choices than this shows only their number."""
TOPICS = {
    "identity": "A role: the field determines the output. It is part of the stage's fingerprint, "
    "and a stage whose fingerprint changes runs again.",
    "cosmetic": "A role: the field is for readers and changes nothing.",
    "runtime": "A role, and the field that holds most of these settings: how the work is done. "
    "Changing it reruns nothing.",
    "amount": "A part of a run: `100` is a number of optimizer steps, `5%` a share of the run, "
    "`{tokens: 300k}` a number of tokens.",
    "count": "An integer: `1000`, `1_000_000`, `300k`, `1.5M`, `2B`.",
    "reference": "The name of another stage. For a stage that trains, `name@step-500` selects a "
    "checkpoint, and `name@final` (or the name alone) the last one.",
    "variable": "`${name}` is replaced by a value of `vars`, wherever a single value is allowed; "
    "write `$${` for a literal `${`. In a URL, `${env.NAME}` is an environment variable: its value "
    "is read when the file is requested; it is neither recorded nor part of the identity.",
    "base": "A file named in `extends`. Its values apply unless this file sets them. It may omit "
    "anything, including `continuum` and `name`.",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "greater than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
MAX_BOUND = 10**15
"""Larger bounds only exclude absurd values, so they are not shown."""
_TYPES = {
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "string": "string",
    "null": "null",
    "object": "mapping",
    "array": "list",
}


@dataclass(frozen=True)
class Field:
    """One field of the spec, merged over the kinds where it is the same."""

    path: str
    """Dotted, below the stage or the experiment: `optimizer.lr`."""
    kinds: tuple[str, ...]
    """The kinds that have it; empty for a field of the experiment."""
    type: str
    is_required: bool
    default: Any
    role: str
    unit: str | None
    description: str
    examples: tuple[Any, ...]
    choices: tuple[Any, ...]
    """All allowed values, if they are listed."""
    below: tuple[str, ...]
    """The fields of the mapping it holds."""


@dataclass(frozen=True)
class Kind:
    """A kind of stage."""

    name: str
    summary: str
    description: str
    fields: tuple[str, ...]
    aliases: tuple[str, ...]
    """Its names in other programs."""


@cache
def all_fields() -> tuple[Field, ...]:
    """Return the fields of the experiment and of all kinds; equal ones of several kinds once."""
    found = [*_fields_of(Experiment, ()), _field("extends", (), EXTENDS, {})]
    for kind, cls in stage_kinds().items():
        found += _fields_of(cls, (kind,))
    merged: dict[str, Field] = {}
    for field in found:
        is_of_stage = bool(field.kinds)
        alike = replace(field, kinds=(), is_required=is_of_stage and field.is_required)
        key = f"{is_of_stage} {alike!r}"
        if key in merged and field.kinds:
            field = replace(field, kinds=(*merged[key].kinds, *field.kinds))
        merged[key] = field
    return tuple(merged.values())


@cache
def all_kinds() -> tuple[Kind, ...]:
    """Return every kind of stage."""
    return tuple(
        Kind(kind, kind_summary(cls), cls.__doc__ or "", (*keys.names_at(cls, ()),), cls.aliases)
        for kind, cls in stage_kinds().items()
    )


def find_fields(name: str) -> list[Field]:
    """Return the fields with this path below a stage, a kind or the experiment, or with this end.

    `stages.first.optimizer.lr`, `pretrain.optimizer.lr`, `optimizer.lr` and `lr` find the same.
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
    for way, (first, *_) in keys.fields(cls).items():
        path = _named(way)
        schema = _schema_of(first.model)
        made = _field(".".join(path), kinds, schema["properties"][first.name], schema)
        above = roles.get(path[:-1], "identity")
        roles[path] = made.role if above == "identity" else above
        below = (at[-1] for at in keys.fields(cls) if at and _named(at[:-1]) == path)
        is_required = first.info.is_required()
        made = replace(made, role=roles[path], below=tuple(dict.fromkeys(below)))
        if kinds and path == ("kind",):
            summary = kind_summary(stage_kinds()[kinds[0]])
            made, is_required = replace(made, default=None, description=summary), True
        yield replace(made, is_required=is_required)


def _named(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without list items and free keys."""
    return tuple(part for part in path if part != keys.ANY)


@cache
def _schema_of(model: type[Spec]) -> Schema:
    return model.model_json_schema(schema_generator=Generator)


def _field(path: str, kinds: tuple[str, ...], schema: Schema, model: Schema) -> Field:
    definitions = model.get("$defs", {})
    inner = list(_alternatives(schema, definitions))
    about: Schema = {}
    for one in (*reversed(inner), schema):
        about |= {key: one[key] for key in ("description", "examples", UNIT) if key in one}
    return Field(
        path=path,
        kinds=kinds,
        type=_type_name(inner, definitions),
        is_required=False,
        default=schema.get("default"),
        role=schema.get(ROLE, "identity"),
        unit=about.get(UNIT),
        description=" ".join(about.get("description", "").split()),
        examples=tuple(about.get("examples", ())),
        choices=tuple(value for one in inner for value in _choices(one)),
        below=(),
    )


def _alternatives(schema: Schema, definitions: dict[str, Schema]) -> Iterator[Schema]:
    """The schemas of a single type that a value may have."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix(DEFINITIONS)]
    below = schema.get("anyOf") or schema.get("oneOf")
    for one in below or ():
        yield from _alternatives(one, definitions)
    if not below:
        yield schema


def _choices(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _type_name(alternatives: list[Schema], definitions: dict[str, Schema]) -> str:
    """`number (above 0)`, `one of auto, cpu, cuda`, `list of text or null`."""
    return " or ".join(dict.fromkeys(_single_type(one, definitions) for one in alternatives))


def _single_type(schema: Schema, definitions: dict[str, Schema]) -> str:
    if choices := _choices(schema):
        if len(choices) > MANY_CHOICES:
            return f"one of {len(choices)} names"
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(str, choices))
    names = schema.get("type", [])
    free = next(iter(schema.get("patternProperties", {}).values()), None)
    item = schema.get("items") or schema.get("additionalProperties") or free
    bounds = ", ".join(
        f"{word} {schema[key]:,}"
        for key, word in _BOUNDS.items()
        if key in schema and schema[key] < MAX_BOUND
    )
    words = []
    for name in [names] if isinstance(names, str) else names:
        word = _TYPES[name]
        if name in ("array", "object") and isinstance(item, dict):
            word += f" of {_type_name(list(_alternatives(item, definitions)), definitions)}"
        words.append(f"{word} ({bounds})" if name in ("integer", "number") and bounds else word)
    return " or ".join(words) or "any value"
