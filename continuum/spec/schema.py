"""The JSON Schema (2020-12) of `experiment.yaml`, for editors, reviewers and `continuum explain`.

Everything in it comes from the models: types, bounds and defaults, the docstrings of the fields,
their examples, units and roles. `continuum explain` reads this schema, so both say the same.

- A stage is chosen by its `kind` with if/then, so that an editor complains about the fields of the
  kind that was meant. Without a `kind` (a base gives it) any field of any kind may stand.
- A spec with `extends` may leave out anything: what it needs may be in its bases, which a schema
  cannot read. So may a base, which is told by having neither `continuum` nor `name`.
- `${name}` may stand for any single value.
"""

import json
import sys
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from pydantic_core.core_schema import ModelSchema

from continuum.amounts import Amount
from continuum.fields import ROLE, Spec, field_docs
from continuum.spec.experiment import STAGE_NAME, Experiment
from continuum.spec.schema_fields import DEFINITIONS, VARIABLE, FieldSchemas, Schema
from continuum.spec.schema_rules import COMPLETE, Requirements
from continuum.stage import Stage
from continuum.stages import stage_kinds

DIALECT = "https://json-schema.org/draft/2020-12/schema"
STAGE = "Stage"
ANY_STAGE = "AnyStage"
VALIDATION: JsonSchemaMode = "validation"
MAX_LINE = 100
IS_PART: Schema = {
    "anyOf": [
        {"required": ["extends"]},
        {"not": {"anyOf": [{"required": ["continuum"]}, {"required": ["name"]}]}},
    ]
}
"""Holds for what may leave things out: a spec that extends others, or a base."""
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
    """The schema of an experiment file and of the bases that others extend.

    The result is shared: do not change it.
    """
    kinds = stage_kinds()
    names, raw = _raw_definitions(Experiment, *kinds.values())
    requirements = Requirements(raw)
    fields = FieldSchemas(raw, requirements.of)
    kind_names = {kind: fields.define(names[cls]) for kind, cls in kinds.items()}
    for kind, name in kind_names.items():
        fields.definitions[name]["properties"]["kind"] = _one_kind(kind)
    needs = {kind: requirements.of(names[cls]) for kind, cls in kinds.items()}
    stages = {
        STAGE: _stage(kind_names),
        STAGE + COMPLETE: _whole_stage(needs),
        ANY_STAGE: _any_stage({name: fields.definitions[name] for name in kind_names.values()}),
    }
    return {
        "$schema": DIALECT,
        "title": "A continuum experiment, or a base for one",
        **_root(fields.model(raw[names[Experiment]])),
        "if": IS_PART,
        "else": _whole_experiment(raw[names[Experiment]]["required"]),
        "$defs": {**fields.definitions, **requirements.definitions, **stages},
    }


def schema_text() -> str:
    """The schema as a file holds it: the same bytes for the same models."""
    return _dump(experiment_schema(), 0) + "\n"


def kind_summary(cls: type[Stage]) -> str:
    """A line on what a kind does: the head of its module, `kind: name - what it does.`"""
    head = (sys.modules[cls.__module__].__doc__ or "").strip().partition("\n")[0]
    said = head.partition(" - ")[2] or (cls.__doc__ or cls.__name__).strip().partition("\n")[0]
    return said[:1].upper() + said[1:]


class _Generator(GenerateJsonSchema):
    """Pydantic's, with the docstrings of the fields, and defaults as one would write them."""

    def model_schema(self, schema: ModelSchema) -> dict[str, Any]:
        made = super().model_schema(schema)
        cls: type[Spec] = schema["cls"]
        for name, text in field_docs(cls).items():
            made["properties"][name].setdefault("description", text)
        return made

    def encode_default(self, dft: Any) -> Any:
        return written(dft) if isinstance(dft, Spec) else super().encode_default(dft)


def written(value: Spec) -> Any:
    """A default as one would write it in YAML: `5%`, `1000`, `{}` for a part left as it is."""
    if isinstance(value, Amount):
        if value.percent is not None:
            return f"{value.percent:g}%"
        return value.steps if value.steps is not None else {"tokens": value.tokens}
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _raw_definitions(*models: type[Spec]) -> tuple[dict[type[Spec], str], dict[str, Schema]]:
    """Pydantic's own definitions, and under which name each model stands."""
    references, schema = models_json_schema(
        [(model, VALIDATION) for model in models], schema_generator=_Generator
    )
    names = {
        model: references[model, VALIDATION]["$ref"].removeprefix(DEFINITIONS) for model in models
    }
    return names, schema["$defs"]


def _root(head: Schema) -> Schema:
    stages = head["properties"]["stages"]
    stages |= {
        "additionalProperties": {"$ref": DEFINITIONS + STAGE},
        "propertyNames": {"pattern": f"^{STAGE_NAME.pattern}$"},
    }
    del stages["minProperties"]
    return {**head, "properties": {**head["properties"], "extends": EXTENDS}}


def _whole_experiment(required: list[str]) -> Schema:
    stages = {"minProperties": 1, "additionalProperties": {"$ref": DEFINITIONS + STAGE + COMPLETE}}
    return {"required": required, "properties": {"stages": stages}}


def _one_kind(kind: str) -> Schema:
    variable = {"$ref": DEFINITIONS + VARIABLE}
    described = kind_summary(stage_kinds()[kind])
    return {"anyOf": [{"const": kind}, variable], "description": described, ROLE: "identity"}


def _all_kinds() -> Schema:
    described = {kind: kind_summary(cls) for kind, cls in stage_kinds().items()}
    choice = {"enum": list(described), "enumDescriptions": list(described.values())}
    return {
        "anyOf": [choice, {"$ref": DEFINITIONS + VARIABLE}],
        "description": field_docs(Stage)["kind"],
        ROLE: "identity",
    }


def _stage(kind_names: dict[str, str]) -> Schema:
    """A stage in which nothing is required."""
    is_variable = {"properties": {"kind": {"$ref": DEFINITIONS + VARIABLE}}}
    branches = [
        {"if": _is_kind(kind), "then": {"$ref": DEFINITIONS + name}}
        for kind, name in kind_names.items()
    ]
    return {
        "type": "object",
        "description": "A stage; its `kind` says what it does and which fields it has.",
        "properties": {"kind": _all_kinds()},
        "allOf": [*branches, {"if": is_variable, "then": {"$ref": DEFINITIONS + ANY_STAGE}}],
    }


def _whole_stage(needs: dict[str, Schema | None]) -> Schema:
    branches = [{"if": _is_kind(kind), "then": needed} for kind, needed in needs.items() if needed]
    return {"required": ["kind"], "allOf": branches}


def _is_kind(kind: str) -> Schema:
    return {"properties": {"kind": {"const": kind}}, "required": ["kind"]}


def _any_stage(stages: dict[str, Schema]) -> Schema:
    """The fields of all kinds together, for a stage whose `kind` is said elsewhere."""
    forms: dict[str, list[tuple[Schema, Schema]]] = {}
    for definition, stage in stages.items():
        for name, schema in stage["properties"].items():
            known = forms.setdefault(name, [])
            if not any(_takes_the_same(schema, other) for other, _ in known):
                known.append((schema, {"$ref": f"{DEFINITIONS}{definition}/properties/{name}"}))
    properties = {
        name: found[0][1] if len(found) == 1 else {"anyOf": [ref for _, ref in found]}
        for name, found in forms.items()
    }
    return {"properties": {**properties, "kind": _all_kinds()}, "additionalProperties": False}


def _takes_the_same(one: Schema, other: Schema) -> bool:
    about = ("description", "default", "examples")
    return {k: v for k, v in one.items() if k not in about} == {
        k: v for k, v in other.items() if k not in about
    }


def _dump(value: Any, depth: int) -> str:
    """JSON with sorted keys; what fits on a line stays on it, for reviews."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(line) + depth <= MAX_LINE or not isinstance(value, (dict, list)) or not value:
        return line
    margin, inner = " " * depth, " " * (depth + 2)
    if isinstance(value, list):
        items = [inner + _dump(item, depth + 2) for item in value]
        return "[\n" + ",\n".join(items) + f"\n{margin}]"
    items = [f"{inner}{json.dumps(key)}: {_dump(value[key], depth + 2)}" for key in sorted(value)]
    return "{\n" + ",\n".join(items) + f"\n{margin}}}"
