"""The resolved document: all bases, overrides and variables in one, and defaults if asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from continuum.experiment.amounts import Amount
from continuum.experiment.fields import LocalPath, Spec
from continuum.loading.diagnostics import Place
from continuum.loading.experiment import Document
from continuum.loading.yaml import Node

DEFAULT = Place("default", 1, 1, Path())
"""Where a value stands that no file states."""


def resolve(document: Document, *, defaults: bool) -> Node:
    """The document as one file in the experiment's folder could say it.

    `vars` are filled in and left out; relative paths are made relative to the experiment's folder.
    Keys stay in the order of the files, but for the head of the experiment and each `kind`.

    Args:
        document: The experiment.
        defaults: Whether to add what the files leave to defaults; those that are null mean "off"
            and are left out.
    """
    completed = _complete(document.root, document.experiment, defaults=defaults)
    assert isinstance(completed.value, dict)
    # A base may know only stages, so its keys would come before the experiment's name.
    head = [key for key in _fields(document.experiment) if key in completed.value and key != "vars"]
    return replace(completed, value={key: completed.value[key] for key in head})


def _complete(node: Node, value: Any, *, defaults: bool) -> Node:
    """The node with what loading has made of it."""
    if isinstance(value, LocalPath):
        return replace(node, value=str(value))
    if isinstance(value, Spec) and isinstance(node.value, dict):
        return _complete_mapping(node, node.value, value, defaults=defaults)
    if isinstance(value, dict) and isinstance(node.value, dict):
        below = {key: _complete(n, value[key], defaults=defaults) for key, n in node.value.items()}
        return replace(node, value=below)
    if isinstance(value, tuple) and isinstance(node.value, list):
        pairs = zip(node.value, value, strict=True)
        return replace(node, value=[_complete(n, item, defaults=defaults) for n, item in pairs])
    return node


def _complete_mapping(node: Node, written: dict[str, Node], value: Spec, *, defaults: bool) -> Node:
    fields = _fields(value)
    below = {key: _complete(n, fields.get(key), defaults=defaults) for key, n in written.items()}
    if defaults:
        absent = {key: item for key, item in fields.items() if key not in written}
        below |= {key: _as_node(item) for key, item in absent.items() if item is not None}
    kind = {"kind": below["kind"]} if "kind" in below else {}
    return replace(node, value={**kind, **below})


def _fields(value: Spec) -> dict[str, Any]:
    """Fields by their names in YAML."""
    infos = type(value).model_fields.items()
    return {info.alias or name: getattr(value, name) for name, info in infos}


def _as_node(value: Any) -> Node:
    """A default, in its short form where there is one."""
    if isinstance(value, Amount) and value.tokens is None:
        value = value.steps if value.steps is not None else f"{value.percent:g}%"
    if isinstance(value, Spec):
        value = _fields(value)
    if isinstance(value, dict):
        stated = {str(key): _as_node(item) for key, item in value.items() if item is not None}
        return Node(stated, DEFAULT, DEFAULT)
    if isinstance(value, tuple):
        return Node([_as_node(item) for item in value], DEFAULT, DEFAULT)
    return Node(value, DEFAULT, DEFAULT)
