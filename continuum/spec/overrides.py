"""`--set PATH=VALUE`: values of the command line, put into the document.

A value replaces what is at the path, mappings too; `stages.NEW.kind=…` begins a new stage, and null
takes a value away.
"""

from dataclasses import replace
from pathlib import Path

from continuum.spec.diagnostics import OVERRIDE, Diagnostic, Place, SpecError
from continuum.spec.known import suggest
from continuum.spec.scalars import read_scalar
from continuum.spec.source import Node, read_text
from continuum.spec.syntax import unprintable_in
from continuum.spelling import nearest

HEAD = ("continuum", "name", "description", "seed", "seeds", "vars", "stages", "extends")
"""Keys of a file: those of the experiment, and `extends`."""
MAX_KEYS = 16
MAX_DIGITS = 9
"""Of an index in a list."""


def override(root: Node, text: str, cleared: set[tuple[str, ...]]) -> Node:
    """The document with one value replaced or added; the value is typed as in YAML.

    The path of a value that null replaces is added to `cleared`.

    Raises:
        SpecError: the override makes no sense for this document.
    """
    place = Place(f"{OVERRIDE}{text}", 1, 1, Path.cwd())
    path, separator, raw = text.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not separator or not all(keys) or len(keys) > MAX_KEYS:
        message = "an override is PATH=VALUE, as in stages.pretrain.optimizer.lr=1e-4"
        raise SpecError([Diagnostic("E304", message, place)])
    if keys[0] == "extends":
        message = "`extends` is read before overrides are; edit the file instead"
        raise SpecError([Diagnostic("E304", message, place, "extends")])
    if (stage := _stage_meant(root, keys[0])) is not None:
        message = f"{path.strip()}: stages are overridden below `stages`"
        meant = ".".join(("stages", stage, *keys[1:]))
        raise SpecError([Diagnostic("E304", message, place, path.strip(), meant)])
    value = _read(raw.strip(), place)
    if value.value is None and _is_there(root, keys):
        cleared.add(tuple(keys))
    return _Override(".".join(keys), place).put(root, keys, value)


def as_index(part: str) -> int | str:
    """A part of a dotted path as a list takes it; the text itself when it counts nothing."""
    is_number = part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS
    return int(part) if is_number else part


class _Override:
    def __init__(self, path: str, place: Place) -> None:
        self._path = path
        self._keys = path.split(".")
        self._place = place

    def put(self, node: Node, keys: list[str], value: Node) -> Node:
        key, rest = keys[0], keys[1:]
        if isinstance(node.value, list):
            index = as_index(key)
            if not isinstance(index, int) or index >= len(node.value):
                raise self._error(f"{key!r} is no index of a list of {len(node.value)} (from 0)")
            items = list(node.value)
            items[index] = self.put(items[index], rest, value) if rest else value
            return replace(node, value=items)
        if not isinstance(node.value, (dict, type(None))):
            raise self._error(f"there is a plain value above {key!r}, not a mapping")
        known = node.value or {}
        if self._names_no_stage(key, rest, value, known):
            raise self._error(f"there is no stage {key!r}", suggest(key, known))
        if rest:
            below = known.get(key) or Node({}, self._place, self._place)
            value = self.put(below, rest, value)
        # Of a value that is new, the override is the place; of what lies around it, the file.
        return replace(node, value={**known, key: value})

    def _names_no_stage(
        self, key: str, rest: list[str], value: Node, known: dict[str, Node]
    ) -> bool:
        """Whether `key` is a stage that would have to be there and is not."""
        above = self._keys[: len(self._keys) - len(rest) - 1]
        if above != ["stages"] or (key in known and known[key].value is not None):
            return False
        return rest != ["kind"] if rest else value.value is None

    def _error(self, message: str, suggestion: str | None = None) -> SpecError:
        return SpecError(
            [Diagnostic("E304", f"{self._path}: {message}", self._place, self._path, suggestion)]
        )


def _stage_meant(root: Node, key: str) -> str | None:
    """The stage that a path begins with; None where a key at the top is meant."""
    stages = root.child("stages")
    names = stages.value if stages is not None and isinstance(stages.value, dict) else {}
    if key in HEAD:
        return None
    if key in names:
        return key
    return None if nearest(key, HEAD) else nearest(key, names)


def _is_there(node: Node, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(node.value, dict) or key not in node.value:
            return False
        node = node.value[key]
    return True


def _read(raw: str, place: Place) -> Node:
    if raw[:1] in ("[", "{", "'", '"'):
        mild: list[Diagnostic] = []
        node = read_text(raw, place, mild)
        if mild:
            raise SpecError(mild)
        return replace(node, key_place=place)
    if (char := unprintable_in(raw)) is not None:
        raise SpecError([Diagnostic("E104", f"a control character ({char}) in a value", place)])
    try:
        return Node(read_scalar(raw), place, place)
    except ValueError as error:
        raise SpecError([Diagnostic("E104", str(error), place)]) from None
