"""From files to one document: `extends`, `--set`, `vars`; every value keeps its place of origin."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from continuum.fields import closest
from continuum.spec.diagnostics import Diagnostic, Place, SpecError
from continuum.spec.scalars import read_scalar
from continuum.spec.source import Node, read_file, read_text

_VARIABLE = re.compile(r"\$\{([^${}]*)\}")
_WHOLE_VARIABLE = re.compile(r"\$\{([^${}]*)\}")
_ESCAPED = "$${"
_MARK = "\0"
MAX_ROUNDS = 8
"""Variables may use variables, this deep."""


def compose(path: Path, overrides: Sequence[str] = ()) -> Node:
    """The whole document of an experiment: its bases merged, overrides set, variables filled in.

    Raises:
        SpecError: all mistakes that were met.
    """
    root = _extend(path, (), None)
    faults: list[Diagnostic] = []
    for override in overrides:
        try:
            root = _override(root, override)
        except SpecError as error:
            faults += error.diagnostics
    root = _substitute_all(root, faults)
    if faults:
        raise SpecError(faults)
    return root


def merge(base: Node, over: Node) -> Node:
    """Deep merge of mappings; anything else in `over` replaces what `base` has."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return replace(over, value=merged)


def _extend(path: Path, above: tuple[Path, ...], said_at: Place | None) -> Node:
    real = path.resolve()
    if real in above:
        assert said_at is not None
        circle = " -> ".join(p.name for p in (*above[above.index(real) :], real))
        raise SpecError([Diagnostic("E303", f"files extend each other: {circle}", said_at)])
    if said_at is not None and not path.is_file():
        raise SpecError([Diagnostic("E302", f"no such file: {path}", said_at, "extends")])
    root = read_file(path)
    if not isinstance(root.value, dict):
        message = "an experiment is a mapping (`continuum: 1`, `name: …`, `stages: …`)"
        raise SpecError([Diagnostic("E008", message, root.place)])
    named = root.value.get("extends")
    own = replace(root, value={k: v for k, v in root.value.items() if k != "extends"})
    if named is None:
        return own
    bases = [_extend(base, (*above, real), place) for base, place in _base_files(named)]
    for base in reversed(bases):
        own = merge(base, own)
    return own


def _base_files(named: Node) -> list[tuple[Path, Place]]:
    nodes = named.value if isinstance(named.value, list) else [named]
    faults = [
        Diagnostic("E103", "`extends` is a file or a list of files", node.place, "extends")
        for node in nodes
        if not isinstance(node.value, str)
    ]
    if faults:
        raise SpecError(faults)
    return [(node.place.folder / str(node.value), node.place) for node in nodes]


def _override(root: Node, text: str) -> Node:
    place = Place(f"--set {text}", 1, 1, Path.cwd())
    path, separator, raw = text.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        message = "an override is PATH=VALUE, as in stages.pretrain.optimizer.lr=1e-4"
        raise SpecError([Diagnostic("E304", message, place)])
    raw = raw.strip()
    value = read_text(raw, place) if raw[:1] in "[{'\"" and raw else None
    node = value or Node(read_scalar(raw, place), place)
    return _set(root, keys, replace(node, key_place=place), path.strip(), place)


def _set(node: Node, keys: list[str], value: Node, path: str, place: Place) -> Node:
    key, rest = keys[0], keys[1:]
    if isinstance(node.value, list):
        if not key.isdecimal() or int(key) >= len(node.value):
            message = f"{path}: {key!r} is no index of a list of {len(node.value)}"
            raise SpecError([Diagnostic("E304", message, place, path)])
        items = list(node.value)
        items[int(key)] = _set(items[int(key)], rest, value, path, place) if rest else value
        return replace(node, value=items)
    if not isinstance(node.value, dict):
        message = f"{path}: there is a plain value above {key!r}, not a mapping"
        raise SpecError([Diagnostic("E304", message, place, path)])
    below = node.value.get(key)
    if rest:
        if below is None and path.startswith("stages.") and path.split(".")[1] == key:
            suggestion = closest(key, node.value)
            message = f"{path}: there is no stage {key!r}"
            raise SpecError([Diagnostic("E304", message, place, path, suggestion)])
        value = _set(below or Node({}, place, place), rest, value, path, place)
    return replace(node, value={**node.value, key: value})


def _substitute_all(root: Node, faults: list[Diagnostic]) -> Node:
    assert isinstance(root.value, dict)
    declared = root.value.get("vars")
    variables: dict[str, Node] = {}
    if declared is not None and isinstance(declared.value, dict):
        variables = declared.value
    for _ in range(MAX_ROUNDS):
        if not any(_uses_variable(node) for node in variables.values()):
            break
        variables = {k: _substitute(n, variables, [], k) for k, n in variables.items()}
    for name, node in variables.items():
        if isinstance(node.value, (dict, list)):
            message = f"the variable {name!r} must be a single value"
            faults.append(Diagnostic("E103", message, node.place, f"vars.{name}"))
    filled = {
        key: node if key == "vars" else _substitute(node, variables, faults, key)
        for key, node in root.value.items()
    }
    if declared is not None and isinstance(declared.value, dict):
        filled["vars"] = replace(declared, value=variables)
        _substitute(filled["vars"], variables, faults, "vars")
    return replace(root, value=filled)


def _uses_variable(node: Node) -> bool:
    return isinstance(node.value, str) and _VARIABLE.search(node.value) is not None


def _substitute(
    node: Node, variables: dict[str, Node], faults: list[Diagnostic], path: str
) -> Node:
    if isinstance(node.value, dict):
        items = node.value.items()
        below = {k: _substitute(n, variables, faults, f"{path}.{k}") for k, n in items}
        return replace(node, value=below)
    if isinstance(node.value, list):
        listed = [_substitute(n, variables, faults, path) for n in node.value]
        return replace(node, value=listed)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    whole = _WHOLE_VARIABLE.fullmatch(node.value)
    if whole and whole[1] in variables:
        # The place stays the use's: that is what a reader of an error has to look at.
        return replace(node, value=variables[whole[1]].value)

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in variables:
            message = f"the variable {name!r} is not defined in `vars`"
            suggestion = closest(name, variables)
            faults.append(Diagnostic("E301", message, node.place, path, suggestion))
            return match[0]
        return _as_text(variables[name].value)

    text = _VARIABLE.sub(fill, node.value.replace(_ESCAPED, _MARK)).replace(_MARK, "${")
    return replace(node, value=text)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
