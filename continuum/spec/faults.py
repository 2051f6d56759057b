"""From Pydantic's errors to diagnostics: the right place, the user's words, a suggestion."""

import math
import re
from typing import Any

from pydantic import ValidationError

from continuum.amounts import Amount
from continuum.fields import Spec
from continuum.recipe import BATCHES, Runtime
from continuum.spec.diagnostics import MAX_MISTAKES, Diagnostic, SpecError
from continuum.spec.keys import (
    Effort,
    KeyPath,
    docs_at,
    field_names,
    meant_key,
    models_at,
    suggest,
)
from continuum.spec.source import Node
from continuum.spec.unions import UNION, Fault, sort_out_unions
from continuum.spec.wording import bound_text, comma_hint, name_of, owner_of, quotes_hint, show
from continuum.stage import Stage
from continuum.stages import stage_kinds

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
    "constrained-str": "a share such as 10%",  # the other half of `Rate`
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
_SYNONYMS = {
    "gpu": "cuda",
    "true": "on",
    "yes": "on",
    "false": "off",
    "no": "off",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "bfloat16": "bf16-mixed",
    "mixed": "bf16-mixed",
    "float16": "16-mixed",
    "half": "16-mixed",
    "fp32": "32-true",
    "float32": "32-true",
    "full": "32-true",
    "32": "32-true",
    "16": "16-mixed",
}
"""Choices by other programs' names, where the closest spelling would mislead."""
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")
ONLY_HEAD = ("continuum", "seed", "seeds", "vars", "extends")
"""Keys at the top of a file that mean nothing further in."""
NUM_KEYS = 100
"""About as many as a kind has, further in and all."""


class Faults:
    """Collects the mistakes of one document."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self.effort = Effort()
        self._meant: dict[KeyPath, str | None] = {}
        self.found: list[Diagnostic] = []

    def add(
        self,
        code: str,
        path: KeyPath,
        message: str,
        suggestion: str | None = None,
        *,
        at_key: bool = False,
    ) -> None:
        """Note a mistake at the value (or the key) at `path`, or the nearest above that exists."""
        node = self._root
        for part in path:
            below = node.child(part)
            if below is None:
                at_key = True
                break
            node = below
        at_key = at_key or isinstance(node.value, (dict, list))
        place = node.key_place if at_key and node.key_place else node.place
        if len(self.found) >= MAX_MISTAKES:
            many = f"more than {MAX_MISTAKES:,} mistakes; the others are not told"
            raise SpecError([*self.found, Diagnostic("E007", many, place)])
        dotted = ".".join(str(part) for part in path)
        self.found.append(Diagnostic(code, message, place, dotted, suggestion))

    def add_all(self, cls: type[Spec], error: ValidationError, where: KeyPath) -> None:
        """Note all of a validation error's mistakes, found in the value at `where`."""
        faults = list(sort_out_unions(self._node(where), error, WRONG_TYPE))
        meant = [
            (*above, (self._meant_key(cls, where, above, key) or "").partition(".")[0])
            for fault in faults
            if fault.kind == "extra_forbidden" and isinstance(key := fault.path[-1], str)
            for above in [fault.path[:-1]]
        ]
        for fault in faults:
            # A required key under a wrong name is one mistake, told at that name.
            if not (fault.kind == "missing" and fault.path in meant):
                self._add_one(cls, where, fault)

    def _add_one(self, cls: type[Spec], where: KeyPath, fault: Fault) -> None:
        full = (*where, *fault.path)
        if fault.kind == "extra_forbidden":
            self._add_unknown_key(cls, where, fault)
        elif fault.kind == "missing":
            message = f"{owner_of(full[:-1])} needs {str(full[-1])!r}"
            self.add("E102", full, message + _meaning(cls, fault.path), at_key=True)
        elif fault.kind in WRONG_TYPE or fault.kind == UNION:
            self._add_wrong_type(cls, full, fault)
        elif fault.kind == "literal_error":
            self._add_not_among(cls, full, fault)
        elif fault.kind == "too_short" and self._length(full) >= fault.context["min_length"]:
            pass  # Pydantic counts the sound items; what is wrong with the others is told anyway
        elif fault.kind == BATCHES:
            self.add("E101", (*full, "batches"), self._describe_batches(where, fault), at_key=True)
        else:
            at = self._named_key(full, fault.message)
            meant = fault.context.get("suggestion")
            self.add("E104", at, self._describe_value(cls, full, fault), meant)

    def _add_unknown_key(self, cls: type[Spec], where: KeyPath, fault: Fault) -> None:
        *around, name = fault.path
        known = field_names(cls, tuple(around))
        owner = owner_of((*where, *around))
        if name in known:  # of another form that the mapping may have
            others = ", ".join(repr(key) for key in self._keys((*where, *around)) if key != name)
            message = f"{str(name)!r} cannot stand beside {others} in {owner}"
            self.add("E101", (*where, *fault.path), message, at_key=True)
            return
        suggestion = self._meant_key(cls, where, tuple(around), str(name))
        hint = _home_of(cls, str(name)) or comma_hint(str(name))
        if hint:
            suggestion = None
        elif suggestion is None:
            hint = f"; known: {', '.join(known)}"
        message = f"unknown key {str(name)!r} in {owner}{hint}"
        self.add("E101", (*where, *fault.path), message, suggestion, at_key=True)

    def _meant_key(self, cls: type[Spec], where: KeyPath, path: KeyPath, key: str) -> str | None:
        place = (*where, *path, key)
        if place not in self._meant:
            is_affordable = self.effort.affords(NUM_KEYS)
            self._meant[place] = meant_key(cls, where, path, key) if is_affordable else None
        return self._meant[place]

    def _add_wrong_type(self, cls: type[Spec], full: KeyPath, fault: Fault) -> None:
        value = self._node(full).value
        wanted = " or ".join(dict.fromkeys(WRONG_TYPE[kind] for kind in fault.kinds))
        suggestion = _YES_AND_NO.get(str(value).lower()) if wanted == "true or false" else None
        if keys := field_names(cls, fault.path):
            wanted = wanted.replace("a mapping", f"a mapping with {', '.join(keys)}")
        hint = quotes_hint(value, fault.kinds)
        if suggestion is not None:
            hint = _YES_AND_NO_ARE_TEXT
        if fault.kind == UNION:
            hint += _meaning(cls, fault.path)
        message = f"{name_of(full)} should be {wanted}, not {show(value)}{hint}"
        self.add("E103", full, message, suggestion)

    def _add_not_among(self, cls: type[Spec], full: KeyPath, fault: Fault) -> None:
        allowed = [text.strip("'") for text in re.findall(r"'[^']*'|\d+", fault.message)]
        value = self._node(full).value
        one_of = "one of " if len(allowed) > 1 else ""
        wanted = one_of + ", ".join(allowed)
        if keys := field_names(cls, fault.path):  # the field may hold a mapping instead
            wanted += f", or a mapping with one of {', '.join(keys)}"
        message = f"{name_of(full)} should be {wanted}, not {show(value)}"
        synonym = _SYNONYMS.get(str(value).lower())
        if synonym in allowed and isinstance(value, str) and value.lower() in _YES_AND_NO:
            message += _YES_AND_NO_ARE_TEXT
        is_number = isinstance(value, int) and not isinstance(value, bool)
        is_word = isinstance(value, str) or (is_number and len(allowed) > 1)
        similar = suggest(str(value), allowed) if is_word else None
        self.add("E104", full, message, synonym if synonym in allowed else similar)

    def _describe_value(self, cls: type[Spec], full: KeyPath, fault: Fault) -> str:
        name, value = name_of(full), self._node(full).value
        said = fault.message.replace("{{", "{").replace("}}", "}")
        if fault.kind in _BOUNDS:
            (bound,) = fault.context.values()
            sign = "%" if isinstance(value, str) and value.rstrip().endswith("%") else ""
            said = f"should be {_BOUNDS[fault.kind]} {bound_text(bound)}{sign}"
        elif fault.kind in _UNITS:
            return f"{name} {_length_words(fault)}"
        elif fault.kind == "string_pattern_mismatch":
            return f"{name} cannot be {show(value)}{_meaning(cls, fault.path)}"
        elif fault.kind in _AMOUNT_FORMS and Amount in models_at(cls, fault.path):
            said = said if isinstance(value, dict) else _AMOUNT
        said = said.removeprefix("Input ")
        is_about_value = said.startswith("should")
        return f"{name} {said}, not {show(value)}" if is_about_value else f"{name}: {said}"

    def _describe_batches(self, stage: KeyPath, fault: Fault) -> str:
        """What to write instead of a number of micro-batches."""
        product = "batches x micro_batch_size"
        batches = self._node((*stage, *fault.path, "batches")).value
        runtime = self._node(stage).child("runtime")
        size = runtime.child("micro_batch_size") if runtime is not None else None
        if size is None and self._node((*stage, "kind")).value != "resume":
            sizes: list[Any] = [Runtime().micro_batch_size]
        else:  # a resume's may be its parent's
            sizes = [size.value] if size is not None else []
        numbers = [value for value in (batches, *sizes) if type(value) is int]
        if len(numbers) == 2:
            return f"{fault.message}; write `sequences: {math.prod(numbers)}`, {product}"
        return f"{fault.message}; write `sequences: N` with N = {product}"

    def _named_key(self, full: KeyPath, message: str) -> KeyPath:
        """A validator of a whole mapping quotes the key it is about first; go there."""
        match = re.match(r"'(\w+)'", message)
        is_there = match is not None and self._node(full).child(match[1]) is not None
        return (*full, match[1]) if match and is_there else full

    def _length(self, path: KeyPath) -> int:
        value = self._node(path).value
        return len(value) if isinstance(value, list) else 0

    def _keys(self, path: KeyPath) -> list[str]:
        value = self._node(path).value
        return list(value) if isinstance(value, dict) else []

    def _node(self, path: KeyPath) -> Node:
        node = self._root
        for part in path:
            below = node.child(part)
            if below is None:
                break
            node = below
        return node


def _home_of(cls: type[Spec], name: str) -> str:
    """For a key at the top that belongs in stages, of which kinds, or the reverse; else empty."""
    if issubclass(cls, Stage):
        if name in cls.refused:
            return f"; {cls.refused[name]}"
        return "; it belongs at the top of the file, beside `stages`" if name in ONLY_HEAD else ""
    kinds = stage_kinds().items()
    homes = [kind for kind, model in kinds if name in field_names(model, ())]
    return f"; it belongs in a stage of kind {' or '.join(homes)}" if homes else ""


def _meaning(cls: type[Spec], path: KeyPath) -> str:
    """The first sentence of the field's documentation, as an addition to a message."""
    text = docs_at(cls, path)
    if not text:
        return ""
    sentence = re.split(r"\.\s", " ".join(text.split()))[0].rstrip(".")
    return f" ({sentence})"


def _length_words(fault: Fault) -> str:
    unit = _UNITS[fault.kind]
    least = fault.context.get("min_length")
    if least is None:
        return f"may have at most {fault.context['max_length']} {unit}"
    return "may not be empty" if least == 1 else f"needs at least {least} {unit}"
