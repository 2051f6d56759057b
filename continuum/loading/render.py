"""The resolved document as YAML: bases merged, overrides set, variables filled in.

The document is dumped and the dump is read back: it is what gives each line its path, and by the
path the place that it comes from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from continuum.experiment.amounts import Amount
from continuum.experiment.fields import LocalPath, Spec
from continuum.loading.diagnostics import Place
from continuum.loading.keys import KeyPath
from continuum.loading.load import Document
from continuum.loading.messages import short_form
from continuum.loading.scalars import read_scalar
from continuum.loading.variables import escape
from continuum.loading.yaml import Node, read_text

DEFAULT = Place("default", 1, 1, Path())
"""The place of a value that no file states."""
MAX_FLOW = 80
"""Characters of a list on one line."""
_TAG = "tag:yaml.org,2002:"
_TAGS = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}


@dataclass(frozen=True)
class Line:
    """A line of the rendered document."""

    text: str
    path: KeyPath
    """The value that it shows or begins."""
    place: Place
    """Its origin."""


def resolve(document: Document, *, defaults: bool) -> dict[str, Any]:
    """Return the document as one file in the experiment's folder could state it.

    `vars` are filled in and left out; relative paths are relative to the experiment's folder. Keys
    keep the order of the files, except for the head of the experiment and each `kind`.

    Args:
        document: The experiment.
        defaults: Whether to add the defaults of absent fields, except those that are null ("off").
    """
    completed = _complete(document.root.plain(), document.experiment, defaults=defaults)
    # A base may hold only stages, so its keys would come before the experiment's name.
    head = [key for key in _fields(document.experiment) if key in completed and key != "vars"]
    return {key: completed[key] for key in head}


def rendered_lines(document: Document, resolved: dict[str, Any]) -> list[Line]:
    """Return the lines of a resolved document with their origins."""
    texts = _dump(_escaped(resolved), flow=False).rstrip("\n").split("\n")
    root = read_text("\n".join(texts), DEFAULT, [])
    paths: dict[int, KeyPath] = {}
    for path, number, is_key in _beginnings(root, ()):
        if is_key or number not in paths:  # the key, of an item that begins with one
            paths[number] = path
    return [
        Line(text, paths[n], _origin(document.root, paths[n])) for n, text in enumerate(texts, 1)
    ]


def in_one_line(value: Any) -> str:
    """Return a JSON value as YAML; a text alone is only quoted if it would not be read as text."""
    if isinstance(value, str) and _is_text(value):
        return value
    return _dump(value, flow=True).removesuffix("...\n").rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Writes plain text only where `read_scalar` reads the same value."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _tag_of(value)
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # PyYAML's
        return tag


def _write_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = None if text.isprintable() and _is_text(text) else '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


def _write_list(dumper: _Dumper, items: Any) -> yaml.Node:
    is_flat = not any(isinstance(item, (dict, list, tuple)) for item in items)
    is_short = is_flat and len(str(list(items))) <= MAX_FLOW
    return dumper.represent_sequence(f"{_TAG}seq", items, flow_style=is_short or None)


_Dumper.add_multi_representer(str, _write_text)
_Dumper.add_representer(str, _write_text)
_Dumper.add_representer(list, _write_list)
_Dumper.add_representer(tuple, _write_list)
_Dumper.add_representer(
    float, lambda dumper, value: dumper.represent_scalar(f"{_TAG}float", repr(value))
)


def _dump(value: Any, *, flow: bool) -> str:
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=flow,
        width=float("inf"),
        allow_unicode=True,
        sort_keys=False,
    )
    return text


def _tag_of(text: str) -> str:
    """The tag of a plain scalar; of what the reader refuses, one that is not text."""
    try:
        return _TAG + _TAGS[type(read_scalar(text))]
    except ValueError:
        return f"{_TAG}float"


def _is_text(text: str) -> bool:
    return _tag_of(text) == f"{_TAG}str"


def _escaped(value: Any) -> Any:
    """Plain values with `${` written so that nothing is taken for a variable."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(map(_escaped, value))
    return escape(value) if isinstance(value, str) else value


def _beginnings(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, int, bool]]:
    """Path and line of each value below a node, and whether a key begins it."""
    if isinstance(node.value, dict):
        for key, below in node.value.items():
            assert below.key_place is not None
            yield (*path, key), below.key_place.line, True
            yield from _beginnings(below, (*path, key))
    elif isinstance(node.value, list):
        for index, below in enumerate(node.value):
            yield (*path, index), below.place.line, False
            yield from _beginnings(below, (*path, index))


def _origin(root: Node, path: KeyPath) -> Place:
    """Of a mapping or list, the place of its key; of a value, its own."""
    node = root.at(path)
    if node is None:
        return DEFAULT
    is_scalar = not isinstance(node.value, (dict, list))
    return node.place if is_scalar or node.key_place is None else node.key_place


def _complete(written: Any, value: Any, *, defaults: bool) -> Any:
    """A plain value of the document with what loading has made of it."""
    if isinstance(value, LocalPath):
        return str(value)
    if isinstance(value, Spec) and isinstance(written, dict):
        fields = _fields(value)
        known = {
            key: _complete(it, fields.get(key), defaults=defaults) for key, it in written.items()
        }
        if defaults:
            absent = {key: item for key, item in fields.items() if key not in written}
            known |= {key: _default(item) for key, item in absent.items() if item is not None}
        return ({"kind": known["kind"]} if "kind" in known else {}) | known
    if isinstance(value, dict) and isinstance(written, dict):
        return {key: _complete(it, value[key], defaults=defaults) for key, it in written.items()}
    if isinstance(value, tuple) and isinstance(written, tuple):
        pairs = zip(written, value, strict=True)
        return tuple(_complete(it, item, defaults=defaults) for it, item in pairs)
    return written


def _fields(value: Spec) -> dict[str, Any]:
    """Fields by their names in YAML."""
    infos = type(value).model_fields.items()
    return {info.alias or name: getattr(value, name) for name, info in infos}


def _default(value: Any) -> Any:
    """A default, in its short form if it has one."""
    value = short_form(value) if isinstance(value, Amount) else value
    value = _fields(value) if isinstance(value, Spec) else value
    if isinstance(value, dict):
        return {str(key): _default(item) for key, item in value.items() if item is not None}
    return tuple(map(_default, value)) if isinstance(value, tuple) else value
