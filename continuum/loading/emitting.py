"""A document as YAML that `loading/yaml.py` reads back to the same values, line by line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from continuum.loading.known import KeyPath
from continuum.loading.scalars import read_scalar
from continuum.loading.variables import escape
from continuum.loading.yaml import Node

INDENT = "  "
MAX_FLOW = 80
"""Letters of a list on one line."""
_PLAIN = re.compile(
    r"(?!\.\.\.)[A-Za-z0-9_./](?:[\w./@%+~=-]|:(?=[\w./])| (?=[\w./@%+~(=-]))*", re.ASCII
)
"""Text that needs no quotes wherever it stands."""


@dataclass(frozen=True)
class Line:
    """A line of YAML, and the value that it shows or begins."""

    text: str
    path: KeyPath
    node: Node


def yaml_lines(root: Node) -> list[Line]:
    """The lines of a mapping, keys in its order; literal `${` is escaped."""
    return list(_block(root, (), 0))


def in_one_line(value: Any) -> str:
    """A JSON value as YAML; a text that stands alone has quotes only if it were none without."""
    if isinstance(value, str):
        return value if _stays_text(value) else _text(value)
    return _flow(value)


def _block(node: Node, path: KeyPath, depth: int) -> Iterator[Line]:
    """The lines of a mapping or list that is not empty."""
    if isinstance(node.value, dict):
        for key, below in node.value.items():
            yield from _entry(f"{INDENT * depth}{_text(key)}:", below, (*path, key), depth)
        return
    assert isinstance(node.value, list)
    for index, below in enumerate(node.value):
        head = f"{INDENT * depth}-"
        if _is_inline(below):
            yield Line(f"{head} {_inline(below)}", (*path, index), below)
            continue
        first, *rest = _block(below, (*path, index), depth + 1)
        yield replace(first, text=f"{head} {first.text.lstrip()}")
        yield from rest


def _entry(head: str, node: Node, path: KeyPath, depth: int) -> Iterator[Line]:
    if _is_inline(node):
        yield Line(f"{head} {_inline(node)}", path, node)
        return
    yield Line(head, path, node)
    yield from _block(node, path, depth + 1)


def _is_inline(node: Node) -> bool:
    """Whether it stands on the line of its key: scalars, what is empty, short lists of scalars."""
    if isinstance(node.value, dict):
        return not node.value
    if not isinstance(node.value, list) or not node.value:
        return True
    has_scalars = not any(isinstance(item.value, (dict, list)) for item in node.value)
    places = {(item.place.file, item.place.line) for item in node.value}
    return has_scalars and len(places) == 1 and len(_inline(node)) <= MAX_FLOW


def _inline(node: Node) -> str:
    if isinstance(node.value, dict):
        return "{}"
    if isinstance(node.value, list):
        return f"[{', '.join(_inline(item) for item in node.value)}]"
    return _text(escape(node.value)) if isinstance(node.value, str) else _scalar(node.value)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        items = (f"{_text(str(key))}: {_flow(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_flow, value))}]"
    return _text(value) if isinstance(value, str) else _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _text(text: str) -> str:
    is_plain = _PLAIN.fullmatch(text) and _stays_text(text)
    return text if is_plain else f'"{"".join(map(_quoted, text))}"'


def _stays_text(text: str) -> bool:
    try:
        return isinstance(read_scalar(text), str)
    except ValueError:
        return False


def _quoted(letter: str) -> str:
    if letter in ('"', "\\"):
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
