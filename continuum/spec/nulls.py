"""What null takes away: values of a base, or of the file when `--set` says it.

Null means "off" where a field can be off (`evaluate: null`). Where it cannot, a later file or an
override that says null takes back what an earlier one said: a stage, an optimizer's argument, a
field that has a default. A null that replaces nothing is a mistake like any other wrong value, save
that an override may always send a field back to its default.
"""

from collections.abc import Set
from dataclasses import replace
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from continuum.fields import Spec
from continuum.spec.keys import KeyPath, field_at
from continuum.spec.source import Node
from continuum.stages import stage_kinds


def drop_nulls(root: Node, head: type[Spec], cleared: Set[tuple[str, ...]]) -> Node:
    """The document without the values that null takes away.

    Args:
        head: The model of the whole document.
        cleared: Where a file says null about a value of one that it extends, or an override does.
    """
    return _Dropper(root, head, cleared).drop(root, ())


class _Dropper:
    def __init__(self, root: Node, head: type[Spec], cleared: Set[tuple[str, ...]]) -> None:
        self._root = root
        self._head = head
        self._cleared = cleared

    def drop(self, node: Node, path: tuple[str, ...]) -> Node:
        if not isinstance(node.value, dict):
            return node
        kept = {
            key: self.drop(below, (*path, key))
            for key, below in node.value.items()
            if not self._is_taken_away(below, (*path, key))
        }
        return replace(node, value=kept)

    def _is_taken_away(self, node: Node, path: tuple[str, ...]) -> bool:
        if node.value is not None or not (node.place.is_override or path in self._cleared):
            return False
        if path[0] == "stages" and len(path) == 2:
            return True
        if path[0] == "vars" and len(path) == 2:
            return False  # a variable may be null
        model, below = self._model(path)
        info = field_at(model, below) if model is not None else None
        if info is None:
            return model is not None and path in self._cleared
        return not (info.is_required() or _takes_null(info.annotation))

    def _model(self, path: tuple[str, ...]) -> tuple[type[Spec] | None, KeyPath]:
        """The model that describes the value at a path, and the path below it."""
        if path[0] != "stages" or len(path) < 3:
            return self._head, path
        stages = self._root.child("stages")
        stage = stages.child(path[1]) if stages is not None else None
        kind = stage.child("kind") if stage is not None else None
        if kind is None or not isinstance(kind.value, str):
            return None, path[2:]
        return stage_kinds().get(kind.value), path[2:]


def _takes_null(annotation: Any) -> bool:
    if annotation is NoneType or annotation is Any:
        return True
    is_choice = get_origin(annotation) in (Union, UnionType, Annotated)
    return is_choice and any(_takes_null(argument) for argument in get_args(annotation))
