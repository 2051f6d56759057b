"""Fields of the models as an editor is to see them: flat types, `${var}` allowed, every role said.

Pydantic describes values as they are once variables are filled in. In the file a `${name}` may
stand for any single value, so each value that is not free text also takes a text with a variable.
All keywords but `enum`, `const` and `$ref` speak of one JSON type only, so alternatives of
different types are merged into one schema: editors then say "Incorrect type" or show the pattern,
instead of listing what failed in every branch of an `anyOf`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from continuum.fields import ROLE, UNIT

Schema = dict[str, Any]
DEFINITIONS = "#/$defs/"
VARIABLE = "Variable"
VARIABLE_SCHEMA: Schema = {
    "type": "string",
    "pattern": r"\$\{[^${}]+\}",
    "patternErrorMessage": "not one of the allowed values, nor a text with a ${variable}",
    "description": "A text with `${name}` in it, filled in from `vars`.",
}
WHOLE_VARIABLE = r"^\$\{[^${}]+\}$"
"""Only a text that is nothing but a variable becomes a number or a truth value."""
_ABOUT_FIELD = ("description", "default", "examples", ROLE, UNIT)
_WRONG_FORM = "not of the form that the description says"
_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping",
}


class FieldSchemas:
    """Rewrites Pydantic's definitions; a model that is met in two roles is defined twice."""

    def __init__(
        self, raw: Mapping[str, Schema], requirement_of: Callable[[str], Schema | None]
    ) -> None:
        self._raw = raw
        self._requirement_of = requirement_of
        self.definitions: dict[str, Schema] = {VARIABLE: VARIABLE_SCHEMA}

    def define(self, name: str, role: str = "identity") -> str:
        """The name under which the model `name` is defined where it stands below `role`."""
        target = name if role == "identity" else f"{name}.{role}"
        if target not in self.definitions:
            self.definitions[target] = {}  # a model may hold itself
            self.definitions[target] = self.model(self._raw[name], role)
        return target

    def model(self, raw: Schema, role: str = "identity") -> Schema:
        """The schema of a model's mapping, nothing in it required."""
        kept = {k: v for k, v in raw.items() if k not in ("title", "required", "properties")}
        properties = {name: self.field(below, role) for name, below in raw["properties"].items()}
        kept |= {"properties": properties, "additionalProperties": False}
        return _in_words(_open_to_variables(kept) if isinstance(raw["type"], list) else kept)

    def field(self, raw: Schema, role: str) -> Schema:
        """The schema of one field: what it takes, and everything that is known about it."""
        about = {key: raw[key] for key in _ABOUT_FIELD if key in raw}
        for alternative in raw.get("anyOf", ()):  # `Tokens | None` keeps its unit inside
            inner = {key: alternative[key] for key in ("examples", UNIT) if key in alternative}
            about = inner | about
        if "$ref" in raw:  # Pydantic leaves out a description that is the model's own
            described = self._raw[raw["$ref"].removeprefix(DEFINITIONS)]["description"]
            about = {"description": described} | about
        if role != "identity" or ROLE not in about:
            about[ROLE] = role
        return _in_words({**self._values(raw, about[ROLE]), **about})

    def _values(self, raw: Schema, role: str) -> Schema:
        alternatives = raw.get("anyOf") or raw.get("oneOf") or [raw]
        flat: list[Schema] = []
        apart: list[Schema] = []
        for alternative in alternatives:
            rewritten = self._alternative(alternative, role, is_named=alternative is not raw)
            is_apart = any(key in rewritten for key in ("enum", "const", "$ref"))
            (apart if is_apart else flat).append(rewritten)
        merged = [_open_to_variables(_merge(flat))] if flat else []
        takes_text = any("string" in types_of(below) for below in merged)
        if not takes_text and any(self._is_choice(below) for below in apart):
            merged.append({"$ref": DEFINITIONS + VARIABLE})
        found = [*apart, *merged]
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _alternative(self, raw: Schema, role: str, *, is_named: bool) -> Schema:
        kept = {k: v for k, v in raw.items() if k not in (*_ABOUT_FIELD, "title")}
        if "$ref" in raw:
            name = self.define(raw["$ref"].removeprefix(DEFINITIONS), role)
            return {**kept, "$ref": DEFINITIONS + name}  # what stands beside it narrows it
        if is_named and "title" in raw:
            self.definitions[raw["title"]] = kept
            return {"$ref": DEFINITIONS + raw["title"]}
        if "items" in raw:
            kept["items"] = self._item(raw["items"], role)
        if "patternProperties" in raw:
            ((pattern, value),) = kept.pop("patternProperties").items()
            kept["propertyNames"] = {"pattern": pattern}
            kept["additionalProperties"] = self._values(value, role)
        elif isinstance(raw.get("additionalProperties"), dict):
            kept["additionalProperties"] = self._values(raw["additionalProperties"], role)
        if "properties" in raw:
            kept["properties"] = {k: self.field(v, role) for k, v in raw["properties"].items()}
        return kept

    def _item(self, raw: Schema, role: str) -> Schema:
        """An item of a list: whole even where the rest is not, since lists are never merged."""
        needed = None
        if "$ref" in raw:
            needed = self._requirement_of(raw["$ref"].removeprefix(DEFINITIONS))
        item = self._values(raw, role)
        return {**item, "allOf": [needed]} if needed else item

    def _is_choice(self, schema: Schema) -> bool:
        """Whether it is a closed set of single values, in place of which a variable may stand."""
        if "$ref" in schema:
            schema = self.definitions[schema["$ref"].removeprefix(DEFINITIONS)]
        return "enum" in schema or "const" in schema


def types_of(schema: Schema) -> list[str]:
    """The JSON types that a schema names."""
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else list(named)


def _merge(alternatives: list[Schema]) -> Schema:
    """One schema for alternatives of different types."""
    types = [name for alternative in alternatives for name in types_of(alternative)]
    if len(alternatives) == 1:
        return alternatives[0]
    assert len(set(types)) == len(types), "two alternatives of one type cannot be merged"
    merged: Schema = {}
    for alternative in alternatives:
        merged |= alternative
    return merged | {"type": types}


def _open_to_variables(schema: Schema) -> Schema:
    """The schema, taking `${name}` too wherever it takes a single value."""
    types = types_of(schema)
    if "string" not in types and not {"integer", "number", "boolean"} & set(types):
        return schema
    if "string" in types and "pattern" not in schema:
        return schema
    if "string" in types:
        pattern = f"{schema['pattern']}|{VARIABLE_SCHEMA['pattern']}"
        return {**schema, "pattern": pattern, "patternErrorMessage": _WRONG_FORM}
    wanted = " or ".join(_WORDS[name] for name in types)
    return {
        **schema,
        "type": [*types, "string"],
        "pattern": WHOLE_VARIABLE,
        "patternErrorMessage": f"should be {wanted}, or a ${{variable}}",
    }


def _in_words(schema: Schema) -> Schema:
    """The schema with a description of one line, and a complaint that shows the right form."""
    if schema.get("patternErrorMessage") == _WRONG_FORM and "examples" in schema:
        examples = " or ".join(json.dumps(example) for example in schema["examples"])
        schema["patternErrorMessage"] = f"should be of a form such as {examples}"
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return schema
