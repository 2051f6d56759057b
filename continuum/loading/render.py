"""The resolved document as YAML: bases merged, overrides set, variables filled in.

The document is dumped and the dump is read back, which gives each line its path, and by the path
its origin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.experiment.amounts import Amount
from continuum.experiment.fields import LocalPath, Spec
from continuum.experiment.url import Url
from continuum.loading.diagnostics import Place
from continuum.loading.dump import dump
from continuum.loading.keys import KeyPath
from continuum.loading.load import Document
from continuum.loading.messages import short_form
from continuum.loading.variables import escape
from continuum.loading.yaml import Node, read_text
from continuum.runs.redaction import kind_of_secret, without_secrets

DEFAULT = Place("default", 1, 1, Path())
"""The place of a value that no file states."""


@dataclass(frozen=True)
class Line:
    """A line of the rendered document."""

    text: str
    path: KeyPath
    """The value on it, or the mapping or list that starts on it."""
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
    texts = dump(_escaped(resolved)).rstrip("\n").split("\n")
    root = read_text("\n".join(texts), DEFAULT, [])
    paths: dict[int, KeyPath] = {}
    for path, number, is_key in _beginnings(root, ()):
        if is_key or number not in paths:  # a key at the start of a list item wins
            paths[number] = path
    return [
        Line(text, paths[n], _origin(document.root, paths[n])) for n, text in enumerate(texts, 1)
    ]


def _escaped(value: Any) -> Any:
    """Plain values with `${` written so that nothing is taken for a variable."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(map(_escaped, value))
    if isinstance(value, Url):
        return str(value)
    return escape(value) if isinstance(value, str) else value


def _beginnings(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, int, bool]]:
    """Path and line of each value below a node, and whether it has a key."""
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
    """The place of the key of a mapping or list, or of a value."""
    node = root.at(path)
    if node is None:
        return DEFAULT
    is_scalar = not isinstance(node.value, (dict, list))
    return node.place if is_scalar or node.key_place is None else node.key_place


def _complete(written: Any, value: Any, *, defaults: bool) -> Any:
    """A plain value of the document with what loading has made of it."""
    if isinstance(value, LocalPath):
        return str(value)
    if isinstance(value, Url):
        return value
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
    is_secret = isinstance(written, str) and kind_of_secret(written)
    return without_secrets(written) if is_secret else written


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
