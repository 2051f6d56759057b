"""Values as YAML that the reader of this package reads back as the same values."""

from typing import Any

import yaml

from continuum.loading.scalars import read_scalar

MAX_FLOW = 80
"""Characters of a list on one line."""
_TAG = "tag:yaml.org,2002:"
_TAGS = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}


def dump(value: Any, *, flow: bool = False) -> str:
    """Return plain values as YAML, mappings in block style unless `flow`."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=flow,
        width=float("inf"),
        allow_unicode=True,
        sort_keys=False,
    )
    return text


def in_one_line(value: Any) -> str:
    """Return a JSON value as YAML; a text alone is only quoted if it would not be read as text."""
    if isinstance(value, str) and _is_text(value):
        return value
    return dump(value, flow=True).removesuffix("...\n").rstrip("\n")


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


def _tag_of(text: str) -> str:
    """The tag of a plain scalar; of what the reader refuses, one that is not text."""
    try:
        return _TAG + _TAGS[type(read_scalar(text))]
    except ValueError:
        return f"{_TAG}float"


def _is_text(text: str) -> bool:
    return _tag_of(text) == f"{_TAG}str"
