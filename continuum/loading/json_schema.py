"""The JSON Schema (2020-12) of `experiment.yaml` and its bases, for editors and reviewers.

It is generated from the models. It defines which keys are allowed, not which are required: a base
may supply them, which a schema cannot see; `continuum validate` reports missing keys.

- The `kind` selects the schema of a stage by if/then, so that an editor reports errors for that
  kind. Without a `kind` (a base has it), all fields of all kinds are allowed.
- `${name}` is allowed for any single value.
"""

import json
import sys
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core.core_schema import ModelSchema

from continuum.experiment.amounts import Amount
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import DEFINITION, ROLE, Spec, field_docs
from continuum.experiment.stage import Stage
from continuum.loading.load import STAGE_NAME
from continuum.loading.messages import short_form
from continuum.stages import stage_kinds

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFINITIONS = "#/$defs/"
MAX_LINE = 100
_VARIABLES: dict[str, Schema] = {
    "Variable": {
        "type": "string",
        "pattern": r"\$\{[^${}]+\}",
        "patternErrorMessage": "not one of the allowed values, nor a text with a ${variable}",
        "description": "A text with `${name}` in it, filled in from `vars`.",
    },
    "WholeVariable": {
        "type": "string",
        "pattern": r"^\$\{[^${}]+\}$",
        "patternErrorMessage": "not of the form that the description says, nor a ${variable}",
        "description": "A variable alone, which may be a number or a truth value.",
    },
}
_NOT_OF_VALUES = ("title", "required", "discriminator", "properties", "patternProperties")
_ABOUT = ("description", "default", "examples", ROLE, "x-continuum-unit")
EXTENDS: Schema = {
    "type": ["string", "array"],
    "items": {"type": "string", "minLength": 1},
    "minLength": 1,
    "description": "Files that this one is merged over, relative to it: mappings are merged, a "
    "later file wins, and whatever is said here wins over all of them.",
    "examples": ["../../configs/gpu.yaml", ["base.yaml", "cpu.yaml"]],
    ROLE: "cosmetic",
}


@cache
def experiment_schema() -> Schema:
    """Return the schema of an experiment file and its bases; do not modify it."""
    kinds = stage_kinds()
    models: tuple[type[Spec], ...] = (Experiment, *kinds.values())
    references, raw = models_json_schema(
        [(model, "validation") for model in models], schema_generator=Generator
    )
    names: dict[Any, str] = {
        model: reference["$ref"].removeprefix(DEFINITIONS)
        for (model, _), reference in references.items()
    }
    definitions: dict[str, Schema] = dict(_VARIABLES)
    for name, model in raw["$defs"].items():
        definitions[name] = _open(model, definitions)
    head = definitions.pop(names[Experiment])
    head["properties"]["extends"] = EXTENDS
    head["properties"]["stages"] |= {
        "additionalProperties": {"$ref": DEFINITIONS + "Stage"},
        "propertyNames": {"pattern": f"^{STAGE_NAME.pattern}$"},
    }
    for kind, cls in kinds.items():
        described = {"description": kind_summary(cls), ROLE: "identity"}
        choice = [{"const": kind}, {"$ref": DEFINITIONS + "Variable"}]
        definitions[names[cls]]["properties"]["kind"] = {"anyOf": choice, **described}
    stages = {kind: names[cls] for kind, cls in kinds.items()}
    definitions["Stage"] = _stage(stages)
    definitions["AnyStage"] = _any_stage({name: definitions[name] for name in stages.values()})
    title = "A continuum experiment, or a base for one"
    return {"$schema": DIALECT, "title": title, **head, "$defs": definitions}


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return _dump(experiment_schema(), 0) + "\n"


def kind_summary(cls: type[Stage]) -> str:
    """Return one line about a kind: the head of its module, `kind: name - summary.`"""
    head = (sys.modules[cls.__module__].__doc__ or "").strip().partition("\n")[0]
    said = head.partition(" - ")[2] or (cls.__doc__ or cls.__name__).strip().partition("\n")[0]
    return said[:1].upper() + said[1:]


class Generator(GenerateJsonSchema):
    """Pydantic's generator, with the docstrings of fields, and defaults as people write them."""

    def model_schema(self, schema: ModelSchema) -> dict[str, Any]:
        made = super().model_schema(schema)
        cls: type[Spec] = schema["cls"]
        for name, text in field_docs(cls).items():
            made["properties"][name].setdefault("description", " ".join(text.split()))
        return made

    def encode_default(self, dft: Any) -> Any:
        """Return `5%`, `1000`, or `{}` for a nested model without changes."""
        if isinstance(dft, Amount):
            return short_form(dft)
        if isinstance(dft, Spec):
            return dft.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return super().encode_default(dft)


def _open(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    """The schema of a value that may also be `${name}`; named parts go to `definitions`."""
    about = {key: raw[key] for key in _ABOUT if raw.get(key) is not None}
    if "description" in about:
        about["description"] = " ".join(about["description"].split())
    bare = {key: value for key, value in raw.items() if key not in (*_ABOUT, *_NOT_OF_VALUES)}
    if (name := bare.pop(DEFINITION, None)) is not None:
        if name not in definitions:
            definitions[name] = {}
            kept = {key: value for key, value in raw.items() if key != DEFINITION}
            definitions[name] = _open(kept, definitions)
        return {"$ref": DEFINITIONS + name, **about}
    alternatives = bare.pop("anyOf", bare.pop("oneOf", None))
    if alternatives is not None:
        opened = [_open(alternative, definitions) for alternative in alternatives]
        for inner in opened:  # `Tokens | None` keeps its unit inside
            about = {key: inner.pop(key) for key in _ABOUT[1:] if key in inner} | about
        return {**bare, "anyOf": _flat(opened), **about}
    if "properties" in raw:
        if "pattern" in bare:  # a short form beside the mapping
            bare["pattern"] += "|" + _VARIABLES["Variable"]["pattern"]
        below = {key: _open(value, definitions) for key, value in raw["properties"].items()}
        return {**bare, "properties": below, "additionalProperties": False, **about}
    for pattern, value in raw.get("patternProperties", {}).items():
        bare |= {"propertyNames": {"pattern": pattern}}
        bare |= {"additionalProperties": _open(value, definitions)}
    if "items" in bare:
        bare["items"] = _open(bare["items"], definitions)
    variable = _variable_for(bare)
    return {"anyOf": [bare, variable], **about} if variable else {**bare, **about}


def _flat(alternatives: list[Schema]) -> list[Schema]:
    """Nested alternatives on one level, without duplicates."""
    inner = [one.get("anyOf", [one]) if one.keys() == {"anyOf"} else [one] for one in alternatives]
    listed = [one for some in inner for one in some]
    return [one for number, one in enumerate(listed) if one not in listed[:number]]


def _variable_for(schema: Schema) -> Schema | None:
    types = schema.get("type", ())
    types = {types} if isinstance(types, str) else set(types)
    if "enum" in schema or "const" in schema or ("string" in types and "pattern" in schema):
        return {"$ref": DEFINITIONS + "Variable"}
    is_single = bool(types & {"integer", "number", "boolean"}) and "string" not in types
    return {"$ref": DEFINITIONS + "WholeVariable"} if is_single else None


def _stage(kinds: dict[str, str]) -> Schema:
    described = {kind: kind_summary(cls) for kind, cls in stage_kinds().items()}
    choice = {"enum": list(described), "enumDescriptions": list(described.values())}
    branches: list[Schema] = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"$ref": DEFINITIONS + name},
        }
        for kind, name in kinds.items()
    ]
    is_elsewhere = {"properties": {"kind": {"$ref": DEFINITIONS + "Variable"}}}
    return {
        "type": "object",
        "description": "A stage; its `kind` says what it does and which fields it has.",
        "properties": {"kind": {"anyOf": [choice, {"$ref": DEFINITIONS + "Variable"}]}},
        "allOf": [*branches, {"if": is_elsewhere, "then": {"$ref": DEFINITIONS + "AnyStage"}}],
    }


def _any_stage(stages: dict[str, Schema]) -> Schema:
    """The fields of all kinds, for a stage whose `kind` is in another file."""
    forms: dict[str, list[Schema]] = {}
    for definition, stage in stages.items():
        for name in stage["properties"]:
            found = {"$ref": f"{DEFINITIONS}{definition}/properties/{name}"}
            forms.setdefault(name, []).append(found)
    properties = {name: {"anyOf": found} for name, found in forms.items()}
    return {"properties": properties, "additionalProperties": False}


def _dump(value: Any, depth: int) -> str:
    """JSON with sorted keys; what fits on one line stays on it."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(line) + depth <= MAX_LINE or not isinstance(value, (dict, list)) or not value:
        return line
    margin, inner = " " * depth, " " * (depth + 2)
    if isinstance(value, list):
        items = [inner + _dump(item, depth + 2) for item in value]
        return "[\n" + ",\n".join(items) + f"\n{margin}]"
    items = [f"{inner}{json.dumps(key)}: {_dump(value[key], depth + 2)}" for key in sorted(value)]
    return "{\n" + ",\n".join(items) + f"\n{margin}}}"
