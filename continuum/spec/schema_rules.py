"""What the JSON Schema asks of a whole experiment, beyond what each value may be.

A base for `extends`, and a spec that extends one, may leave out anything: required keys and the
rules between fields hold only where nothing is added from elsewhere. So they form schemas of their
own, laid over those of the fields: `Pretrain` says what may stand in a stage, `Pretrain.complete`
what must.
"""

from collections.abc import Collection, Mapping

from continuum.optimizers import OPTIMIZER_ARGUMENTS
from continuum.recipe import BUDGET_FIELDS
from continuum.spec.schema_fields import DEFINITIONS, VARIABLE_SCHEMA, Schema

COMPLETE = ".complete"


class Requirements:
    """The `….complete` definitions of Pydantic's."""

    def __init__(self, raw: Mapping[str, Schema]) -> None:
        self._raw = raw
        self._needs: dict[str, bool] = {}
        self.definitions: dict[str, Schema] = {}

    def of(self, name: str) -> Schema | None:
        """A reference to what a whole `name` needs; None when it needs nothing."""
        complete = name + COMPLETE
        if name not in self._needs:
            self._needs[name] = False  # a model may hold itself
            whole = self._whole(name)
            self._needs[name] = bool(whole)
            if whole:
                self.definitions[complete] = whole
        return {"$ref": DEFINITIONS + complete} if self._needs[name] else None

    def _whole(self, name: str) -> Schema:
        raw = self._raw[name]
        below = {key: self._inside(field) for key, field in raw["properties"].items()}
        properties = {key: needed for key, needed in below.items() if needed is not None}
        parts = {
            "required": raw.get("required", []),
            "properties": properties,
            "allOf": _rules(name, raw["properties"].keys()),
        }
        return {key: part for key, part in parts.items() if part}

    def _inside(self, raw: Schema) -> Schema | None:
        if "$ref" in raw:
            return self.of(raw["$ref"].removeprefix(DEFINITIONS))
        models = [below for below in raw.get("anyOf") or raw.get("oneOf") or () if "$ref" in below]
        needs = [self._inside(below) for below in models]
        if len(needs) == 1 or None in needs:
            return needs[0]
        return {"if": {"type": "object"}, "then": {"anyOf": needs}} if needs else None


def given(name: str) -> Schema:
    """The key is there and is not null, which is the same as leaving it out."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _rules(name: str, keys: Collection[str]) -> list[Schema]:
    rules = list(_RULES.get(name, ()))
    if all(budget in keys for budget in BUDGET_FIELDS):
        rules.append(_exactly_one(*BUDGET_FIELDS))
    return rules


def _exactly_one(*names: str) -> Schema:
    return {"oneOf": [given(name) for name in names]}


def _where(key: str, *values: str, is_default: bool = False) -> Schema:
    """Where a key has one of these values (or, as its default, is left out)."""
    chosen: Schema = {"properties": {key: {"enum": list(values)}}}
    return chosen if is_default else {**chosen, "required": [key]}


def _optimizer_arguments() -> list[Schema]:
    return [
        {
            "if": _where("name", name, is_default=name == "AdamW"),
            "then": {"propertyNames": {"enum": ["name", "lr", "no_weight_decay", *arguments]}},
        }
        for name, arguments in OPTIMIZER_ARGUMENTS.items()
    ] + [
        {"not": _on("foreach", "fused")},
        {
            "if": _on("nesterov"),
            "then": {
                "required": ["momentum"],
                "properties": {"momentum": {"exclusiveMinimum": 0}, "dampening": {"maximum": 0}},
            },
        },
    ]


def _on(*switches: str) -> Schema:
    return {"required": list(switches), "properties": {name: {"const": True} for name in switches}}


_IDLE_FLOOR: Schema = {
    "type": ["string", "null"],
    "pattern": rf"^\s*0*10(\.0+)?\s*%\s*$|{VARIABLE_SCHEMA['pattern']}",
}
"""The default of `Schedule.min_lr`, as it may be written."""
_RULES: Mapping[str, list[Schema]] = {
    "Amount": [
        {"if": {"type": "object"}, "then": _exactly_one("steps", "percent", "tokens")},
    ],
    "Source": [
        _exactly_one("url", "path", "python"),
        {"if": given("sha256"), "then": given("url")},
    ],
    "Download": [
        {"if": _where("files", "tokenizer"), "then": {"not": given("model")}},
    ],
    "Import": [
        {"if": _where("as", "dataset"), "then": given("tokenizer")},
        {
            "if": _where("as", "tokenizer", "weights", "corpus"),
            "then": {"not": given("tokenizer")},
        },
    ],
    "Pretrain": [
        {"properties": {"model": {"required": ["name"]}}},
    ],
    "Optimizer": _optimizer_arguments(),
    "Schedule": [
        {"if": _where("kind", "wsd"), "then": given("decay")},
        {
            "if": _where("kind", "cosine", "linear", "constant", "inverse_sqrt", is_default=True),
            "then": {"not": given("decay")},
        },
        {
            "if": _where("kind", "constant"),
            "then": {"properties": {"min_lr": _IDLE_FLOOR}},
        },
    ],
    "ResumeSchedule": [
        {"if": _where("kind", "linear", "cosine"), "then": given("to")},
        {"if": _where("kind", "constant"), "then": {"not": given("to")}},
        {"if": given("peak"), "then": given("warmup")},
        {"if": given("warmup"), "then": given("peak")},
    ],
}
"""Rules between the keys of a mapping, by the model's name; the models check them too."""
