"""From Pydantic's errors to diagnostics: the right place, the user's words, a suggestion."""

import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from continuum.artifacts import Artifact
from continuum.fields import Spec, closest
from continuum.spec.diagnostics import Diagnostic
from continuum.spec.source import Node

STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
Path = tuple[str | int, ...]

_WRONG_TYPE = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
    "ref_type": "the name of a stage",
}


class Faults:
    """Collects the mistakes of one document."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self.found: list[Diagnostic] = []

    def add(
        self,
        code: str,
        path: Path,
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
        place = node.key_place if at_key and node.key_place else node.place
        dotted = ".".join(str(part) for part in path)
        self.found.append(Diagnostic(code, message, place, dotted, suggestion))

    def add_all(self, cls: type[Spec], error: ValidationError, where: Path) -> None:
        """Note all of a validation error's mistakes, found in the value at `where`."""
        for path, fault in _sort_out_unions(self._root, where, error):
            self._add_one(cls, where, path, fault)

    def _add_one(self, cls: type[Spec], where: Path, path: Path, fault: Any) -> None:
        full = (*where, *path)
        kind = fault["type"]
        if kind == "extra_forbidden":
            name = str(path[-1])
            known = field_names(cls, path[:-1])
            suggestion = closest(name, known) or _find_below(cls, path[:-1], name)
            self.add("E101", full, f"unknown key {name!r}", suggestion, at_key=True)
        elif kind == "missing":
            self.add("E102", full, f"{_owner(full)} needs {str(path[-1])!r}", at_key=True)
        elif kind in _WRONG_TYPE:
            message = f"{path[-1]} should be {_WRONG_TYPE[kind]}, not {_show(fault['input'])}"
            self.add("E103", full, message)
        elif kind == "literal_error":
            allowed = [str(a).strip("'") for a in re.findall(r"'[^']*'|\d+", fault["msg"])]
            message = f"{path[-1]} is one of {', '.join(allowed)}, not {_show(fault['input'])}"
            self.add("E104", full, message, closest(str(fault["input"]), allowed))
        else:
            text = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
            text = text if kind.endswith("_format") or "should" in text else fault["msg"]
            message = f"{path[-1]} {text}" if text.startswith("should") else text
            shown = f" (here: {_show(fault['input'])})" if text.startswith("should") else ""
            self.add("E104", full, message + shown)


def describe_noun(cls: type[Artifact]) -> str:
    """`a corpus`, `model weights`, `a training checkpoint`."""
    return cls.noun if cls.noun.endswith("s") and cls.noun != "corpus" else f"a {cls.noun}"


def field_names(cls: type[Spec], path: Path) -> list[str]:
    """The keys allowed in the mapping at `path` below a model."""
    names: list[str] = []
    for model in _models_at(cls, path):
        names += [info.alias or name for name, info in model.model_fields.items()]
    return names


def _models_at(cls: Any, path: Path) -> list[type[Spec]]:
    models = [m for m in _specs_in(cls)]
    for part in path:
        below: list[type[Spec]] = []
        for model in models:
            for name, info in model.model_fields.items():
                if (info.alias or name) == part:
                    below += _specs_in(info.annotation)
        if not isinstance(part, int):
            models = below
    return models


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, tuple, list, dict) or get_args(annotation):
        for argument in get_args(annotation):
            yield from _specs_in(argument)


def _find_below(cls: type[Spec], path: Path, name: str) -> str | None:
    """Where a key that stands at the wrong level belongs: `lr` is `optimizer.lr`."""
    for model in _models_at(cls, path):
        for field, info in model.model_fields.items():
            for below in _specs_in(info.annotation):
                if name in below.model_fields:
                    return f"{info.alias or field}.{name}"
    return None


def _sort_out_unions(root: Node, where: Path, error: ValidationError) -> Iterator[tuple[Path, Any]]:
    """Errors with Pydantic's own tags removed from their places, one for each failed union."""
    node = root
    for part in where:
        below = node.child(part)
        assert below is not None
        node = below
    chosen: dict[Path, tuple[Path, Any]] = {}
    for fault in error.errors(include_url=False):
        path, union = _clean(node, fault["loc"], fault["type"])
        key = union if union is not None else (*path, fault["type"])
        if key not in chosen or _is_better(path, fault, *chosen[key]):
            chosen[key] = (path, fault)
    yield from chosen.values()


def _clean(node: Node, loc: Path, kind: str) -> tuple[Path, Path | None]:
    """The parts of `loc` that exist in the document; the place of the first union, if any."""
    path: list[str | int] = []
    union: Path | None = None
    current: Node | None = node
    for number, part in enumerate(loc):
        below = current.child(part) if current is not None else None
        is_last = number == len(loc) - 1
        if below is not None:
            path.append(part)
            current = below
        elif is_last and kind == "missing":
            path.append(part)
        elif part != "[key]":
            union = union if union is not None else tuple(path)
    return tuple(path), union


def _is_better(path: Path, fault: Any, other_path: Path, other: Any) -> bool:
    """Of two alternatives of a union: the deeper one, then the one that is no mere type clash."""
    if len(path) != len(other_path):
        return len(path) > len(other_path)
    return other["type"] in _WRONG_TYPE and fault["type"] not in _WRONG_TYPE


def _owner(path: Path) -> str:
    above = path[:-1]
    if not above:
        return "the experiment"
    return f"stage {above[-1]!r}" if len(above) == 2 else ".".join(str(part) for part in above)


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (tuple, list)):
        return "a list"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
