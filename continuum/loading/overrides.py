"""`--set PATH=VALUE`: values of the command line, put into the document.

A value replaces the one at the path, mappings included. `stages.NEW.kind=…` adds a stage, and null
removes a value.
"""

from dataclasses import replace
from pathlib import Path

from continuum.loading.diagnostics import OVERRIDE, Diagnostic, Place, SpecError
from continuum.loading.keys import suggest
from continuum.loading.scalars import read_scalar
from continuum.loading.syntax_errors import unprintable_in
from continuum.loading.yaml import Node, Removal, read_text
from continuum.runs.redaction import masked
from continuum.suggestions import nearest

HEAD = ("continuum", "name", "description", "seed", "seeds", "vars", "stages", "extends")
"""Keys of a file: those of the experiment, and `extends`."""
MAX_KEYS = 16
MAX_DIGITS = 9
"""Maximum number of digits of a list index."""


def override(root: Node, text: str) -> Node:
    """Return the document with one value replaced or added; the value is typed as in YAML.

    Raises:
        SpecError: the override is not valid for this document.
    """
    place = Place(f"{OVERRIDE}{masked(text)}", 1, 1, Path.cwd())
    path, separator, raw = text.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not separator or not all(keys) or len(keys) > MAX_KEYS:
        message = "invalid override; use PATH=VALUE, such as stages.pretrain.optimizer.lr=1e-4"
        raise SpecError([Diagnostic("E304", message, place)])
    if keys[0] == "extends":
        message = "`extends` cannot be overridden; edit the file"
        raise SpecError([Diagnostic("E304", message, place, "extends")])
    if (stage := _stage_meant(root, keys[0])) is not None:
        message = f"{path.strip()}: an override of a stage must start with `stages.`"
        meant = ".".join(("stages", stage, *keys[1:]))
        raise SpecError([Diagnostic("E304", message, place, path.strip(), meant)])
    return _put(root, keys, (), _read(raw.strip(), place))


def as_index(part: str) -> int | str:
    """Return a part of a dotted path as a list index, or unchanged if it is not a number."""
    is_number = part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS
    return int(part) if is_number else part


def _put(node: Node, keys: list[str], above: tuple[str, ...], value: Node) -> Node:
    """The document below `above` with the value at `keys`; missing mappings are created."""
    key, *rest = keys
    place, path = value.key_place or value.place, ".".join((*above, *keys))
    known = node.value or {}
    if isinstance(known, list):
        index = as_index(key)
        if not isinstance(index, int) or index >= len(known):
            raise _error(
                path, place, f"index {key!r} is out of range for a list of {len(known)} (from 0)"
            )
        below: Node | None = known[index]
    elif not isinstance(known, dict):
        raise _error(path, place, f"cannot set {key!r}: the value above it is not a mapping")
    else:
        index, below = key, known.get(key)
        is_there = below is not None and below.value is not None
        if (
            above == ("stages",)
            and not is_there
            and (rest != ["kind"] if rest else not value.value)
        ):
            raise _error(path, place, f"stage {key!r} not found", suggest(key, known))
    if rest:
        value = _put(below or Node({}, place, place), rest, (*above, key), value)
    elif value.value is None and isinstance(known, dict) and below is not None:
        value = Removal(None, value.place, value.key_place)
    # The override is the place of a new value; what is around it keeps its place in the file.
    return replace(node, value=known).put((index,), value)


def _error(path: str, place: Place, message: str, suggestion: str | None = None) -> SpecError:
    return SpecError([Diagnostic("E304", f"{path}: {message}", place, path, suggestion)])


def _stage_meant(root: Node, key: str) -> str | None:
    """The stage that a path starts with; None for a top-level key."""
    stages = root.child("stages")
    names = stages.value if stages is not None and isinstance(stages.value, dict) else {}
    if key in HEAD:
        return None
    if key in names:
        return key
    return None if nearest(key, HEAD) else nearest(key, names)


def _read(raw: str, place: Place) -> Node:
    if raw[:1] in ("[", "{", "'", '"'):
        recoverable: list[Diagnostic] = []
        node = read_text(raw, place, recoverable)
        if recoverable:
            raise SpecError(recoverable)
        return replace(node, key_place=place)
    if (char := unprintable_in(raw)) is not None:
        raise SpecError([Diagnostic("E104", f"control character {char} in a value", place)])
    try:
        return Node(read_scalar(raw), place, place)
    except ValueError as error:
        raise SpecError([Diagnostic("E104", str(error), place)]) from None
