"""Strict YAML: every value has its file, line and column, and nothing is guessed.

The tree is built from the events of PyYAML's parser without recursion, so that depth, aliases and
duplicate keys are under control for any input.
"""

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from continuum.loading.diagnostics import MAX_BYTES, Diagnostic, Place, SpecError, read_bytes
from continuum.loading.scalars import read_scalar
from continuum.loading.syntax_errors import (
    begins_with_key,
    invisible_in,
    mask_variable,
    refuse_conflict_markers,
    syntax_error,
    tag_message,
    unmask,
    unprintable_in,
)

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_DEPTH = 64
"""Maximum depth with aliases expanded, so that code may recurse over the tree."""
_MERGE = "\0<<"
"""The key of a merged mapping, after its error is reported."""
MAX_UNQUOTED = 20
"""Maximum number of unquoted variables between brackets that are read as intended."""
BINARY = "binary file; give a YAML file in UTF-8"
MAX_NODES = 70_000
"""Maximum number of values with aliases expanded: 10,000 stages are below, an alias bomb above."""


class Text(str):
    """A string with the folder of its file, which `LocalPath` needs."""

    said_in: Path


@dataclass(frozen=True)
class Node:
    """A value of the document with its place; mappings and lists contain nodes."""

    value: "str | int | float | bool | dict[str, Node] | list[Node] | None"
    place: Place
    key_place: Place | None = None
    """The place of the key, for a value in a mapping."""

    def child(self, key: str | int) -> "Node | None":
        """Return the value at a key or an index; None if there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            return self.value[key]
        return None

    def at(self, path: Iterable[str | int]) -> "Node | None":
        """Return the value at a path below this one; None if there is none."""
        node: Node | None = self
        for part in path:
            node = node.child(part) if node is not None else None
        return node

    def put(
        self, path: tuple[str | int, ...], value: "Node | None", name: str | None = None
    ) -> "Node":
        """Return this value with another one at a path below it; None removes it.

        Args:
            path: The path to change.
            value: The new value.
            name: A new key for it.
        """
        first, *rest = path
        below = self.child(first)
        if rest:
            assert below is not None
            value, name = below.put(tuple(rest), value, name), None
        if isinstance(self.value, list):
            items = [value if number == first else it for number, it in enumerate(self.value)]
            return replace(self, value=[it for it in items if it is not None])
        assert isinstance(self.value, dict)
        kept = {str(first): value} | self.value if below is None else self.value
        changed = {
            (name or key) if key == first else key: value if key == first else it
            for key, it in kept.items()
        }
        return replace(self, value={key: it for key, it in changed.items() if it is not None})

    @staticmethod
    def of(value: Any, place: Place) -> "Node":
        """Return plain values as nodes with one place."""
        if isinstance(value, dict):
            return Node({str(k): Node.of(v, place) for k, v in value.items()}, place, place)
        if isinstance(value, (tuple, list)):
            return Node([Node.of(item, place) for item in value], place, place)
        return Node(value, place, place)

    def plain(self) -> Any:
        """Return Python values: dict, tuple and scalars; strings are `Text`."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return tuple(node.plain() for node in self.value)
        if isinstance(self.value, str):
            text = Text(self.value)
            text.said_in = self.place.folder
            return text
        return self.value


@dataclass(frozen=True)
class Removal(Node):
    """A null that removes the value of an earlier file, or of the file itself."""


def is_removal(node: Node) -> bool:
    """Return True for a null that removes a value, or that an override sets."""
    return node.value is None and (isinstance(node, Removal) or node.place.is_override)


def read_file(path: Path, recoverable: list[Diagnostic]) -> Node:
    """Return the document in a YAML file.

    Args:
        path: The file.
        recoverable: Errors after which the document can be checked are appended to it.

    Raises:
        SpecError: the file cannot be read or is not strict YAML.
    """
    start = Place(str(path), 1, 1, path.parent)
    try:
        raw = read_bytes(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _error_at("E001", f"cannot read the file: {reason}", start) from None
    if len(raw) > MAX_BYTES:
        raise _error_at("E001", f"the file is larger than {MAX_BYTES:,} bytes", start)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in raw:
            is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            message = "the file is in UTF-16; save it as UTF-8" if is_utf16 else BINARY
            binary = Diagnostic("E001", message, start, shows_source=False)
            raise SpecError([binary]) from None
        line = raw[: error.start].count(b"\n") + 1
        place = replace(start, line=line)
        message = f"invalid UTF-8 at byte {error.start:,}; save the file as UTF-8"
        raise _error_at("E001", message, place) from None
    return read_text(text, start, recoverable)


def read_text(
    text: str, start: Place, recoverable: list[Diagnostic], max_nodes: int = MAX_NODES
) -> Node:
    """Return the document in a text that starts at `start`; see `read_file`."""
    refuse_conflict_markers(text, start)
    quoted: list[Diagnostic] = []
    while True:
        builder = _Builder(text, start, max_nodes)
        try:
            for event in yaml.parse(text, Loader=LOADER):
                builder.take(event)
            break
        except yaml.YAMLError as error:
            stop = syntax_error(error, text, start)
            masked = mask_variable(error, text) if len(quoted) < MAX_UNQUOTED else None
            if masked is None:
                before = [one for one in builder.errors if one.place.line != stop.place.line]
                raise SpecError([*quoted, *before, stop]) from None
            quoted.append(stop)
            text = masked
    if builder.is_unusable:
        raise SpecError([*quoted, *builder.errors])
    if builder.root is None:
        raise _error_at("E008", "the file is empty", start)
    recoverable += [*quoted, *builder.errors]
    return builder.root


@dataclass
class _Open:
    """A mapping or list that is not complete yet."""

    value: "dict[str, Node] | list[Node]"
    place: Place
    anchor: str | None
    key_place: Place | None
    pending_key: str | None = None
    pending_place: Place | None = None
    size: int = 1
    """Number of values so far, including this one and expanded aliases."""
    height: int = 0
    """Number of levels below this one so far."""

    def include(self, size: int, height: int) -> None:
        self.size += size
        self.height = max(self.height, height + 1)


class _Builder:
    """Builds nodes from parser events and collects errors."""

    def __init__(self, text: str, start: Place, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self.root: Node | None = None
        self.errors: list[Diagnostic] = []
        self.is_unusable = False
        """True if the file cannot be checked further."""
        self._start = start
        self._lines = text.split("\n")
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int, int]] = {}  # with size and height
        self._num_nodes = 0
        self._num_documents = 0

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._num_documents += 1
            if self._num_documents > 1:
                message = "second document (`---`): a file must contain one experiment"
                self._error("E002", message, event)
                raise SpecError(self.errors)
        elif isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._take_alias(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._take_start(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self._stack.pop()
            if isinstance(done.value, dict) and (merged := done.value.pop(_MERGE, None)):
                above = merged.place.line < (merged.key_place or merged.place).line  # an alias
                below = merged.value if above and isinstance(merged.value, dict) else {}
                done.value = {**below, **done.value}
            node = Node(done.value, done.place, done.key_place)
            self._add(node, done.anchor, done.size, done.height)

    def _take_scalar(self, event: Any) -> None:
        place = self._place(event)
        if event.style in ("'", '"') and event.end_mark.line > event.start_mark.line:
            self._refuse_swallowed_keys(event)
        if self._expects_key():
            self._take_key(event, place)
            return
        value: Any = unmask(event.value)
        if not value and not event.style:
            place = self._key_place() or place  # an empty value has the place of its key
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._error("E006", tag_message(event.tag), event, is_recoverable=True)
        elif event.implicit[0] and not event.style and event.tag is None:
            try:
                value = read_scalar(value)
            except ValueError as error:
                self._error("E104", str(error), event, is_recoverable=True)
        if (char := unprintable_in(event.value)) is not None:
            message = f"control character {char} in a value"
            self._error("E104", message, event, is_recoverable=True)
        self._add(Node(value, place, self._key_place()), event.anchor)

    def _take_key(self, event: yaml.ScalarEvent, place: Place) -> None:
        top, key = self._stack[-1], unmask(event.value)
        assert isinstance(top.value, dict)
        if key in top.value:
            first = top.value[key].key_place
            assert first is not None
            message = f"duplicate key {key!r} (first on line {first.line})"
            self._error("E003", message, event, is_recoverable=True)
        elif event.implicit[0] and key == "<<":
            message = "merge keys (<<) are not supported; use `extends`, or repeat the fields"
            self._error("E006", message, event, is_recoverable=True)
            key = _MERGE
        elif event.tag not in (None, "!"):
            self._error("E006", tag_message(event.tag), event, is_recoverable=True)
        elif not key:
            self._error("E009", "empty key before `:`", event)
        elif key.startswith("-"):
            message = "a key cannot start with `-`; a list item needs a space after the `-`"
            self._error("E009", message, event)
        elif not key.isprintable():
            is_recoverable = key[0].isprintable()  # else it may be part of the indentation
            self._error(
                "E009", f"{invisible_in(key)} in a key", event, is_recoverable=is_recoverable
            )
            key = "".join(char for char in key if char.isprintable())
        top.pending_key, top.pending_place = key, place

    def _take_alias(self, event: yaml.AliasEvent) -> None:
        if self._expects_key():
            self._refuse_key("an alias", event)
        target = self._anchors.get(event.anchor or "")
        if target is None:
            message = f"undefined alias *{event.anchor}: no anchor &{event.anchor} above it"
            self._error("E002", message, event, is_recoverable=True)
            self._add(Node(f"*{event.anchor}", self._place(event), self._key_place()), None)
            return
        node, size, height = target
        self._count(size, event)
        if len(self._stack) + height > MAX_DEPTH:
            message = f"nesting exceeds {MAX_DEPTH} levels with aliases expanded"
            raise _error_at("E007", message, self._place(event))
        self._add(replace(node, key_place=self._key_place()), None, size, height)

    def _take_start(self, event: Any) -> None:
        if self._expects_key():
            self._refuse_key("a list or a mapping", event)
        if len(self._stack) >= MAX_DEPTH:
            place = self._place(event)
            raise _error_at("E007", f"nesting exceeds {MAX_DEPTH} levels", place)
        if event.tag not in (None, "!"):
            self._error("E006", tag_message(event.tag), event, is_recoverable=True)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(value, self._place(event), event.anchor, self._key_place()))

    def _add(self, node: Node, anchor: str | None, size: int = 1, height: int = 0) -> None:
        self._count(1, None)
        if anchor is not None:
            self._anchors[anchor] = (node, size, height)
        if not self._stack:
            self.root = self.root or node
            return
        top = self._stack[-1]
        top.include(size, height)
        if isinstance(top.value, list):
            top.value.append(node)
        else:
            assert top.pending_key is not None
            top.value[top.pending_key] = node
            top.pending_key = top.pending_place = None

    def _expects_key(self) -> bool:
        top = self._stack[-1] if self._stack else None
        return top is not None and isinstance(top.value, dict) and top.pending_key is None

    def _refuse_key(self, found: str, event: Any) -> NoReturn:
        message = f"a key must be plain text, not {found}; quote it"
        self._error("E009", message, event)
        raise SpecError(self.errors)

    def _refuse_swallowed_keys(self, event: Any) -> None:
        """An unclosed quote extends to the next one, which may be far below."""
        first, last = event.start_mark.line, event.end_mark.line
        if any(begins_with_key(line) for line in self._lines[first + 1 : last + 1]):
            line = self._start.line + last
            message = f"unclosed quote: the next one is on line {line}, after other keys"
            place = self._place(event)
            raise SpecError([*self.errors, Diagnostic("E002", message, place)])

    def _key_place(self) -> Place | None:
        return self._stack[-1].pending_place if self._stack else None

    def _count(self, number: int, event: Any) -> None:
        self._num_nodes += number
        if self._num_nodes > self._max_nodes:
            place = self._place(event) if event else self._start
            message = f"more than {self._max_nodes:,} values with aliases expanded"
            raise _error_at("E007", message, place)

    def _place(self, event: Any) -> Place:
        line, column = event.start_mark.line, event.start_mark.column
        first = self._start.column if line == 0 else 1
        return Place(self._start.file, self._start.line + line, first + column, self._start.folder)

    def _error(self, code: str, message: str, event: Any, *, is_recoverable: bool = False) -> None:
        self.errors.append(Diagnostic(code, message, self._place(event)))
        self.is_unusable = self.is_unusable or not is_recoverable


def _error_at(code: str, message: str, place: Place) -> SpecError:
    return SpecError([Diagnostic(code, message, place)])
