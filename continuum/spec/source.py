"""Strict YAML: every value knows its file, line and column, and nothing is guessed.

PyYAML's parser makes the events; the tree is built from them here, without recursion, so that
aliases, depth and duplicate keys are under control whatever the input.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from continuum.spec.diagnostics import Diagnostic, Place, SpecError
from continuum.spec.scalars import read_scalar

MAX_BYTES = 32 << 20
MAX_DEPTH = 64
MAX_NODES = 2_000_000
"""Values after aliases are followed: an alias bomb stops here."""

_CONFLICT = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Text(str):
    """A string that knows which folder its file lies in; `LocalPath` asks for it."""

    said_in: Path


@dataclass(frozen=True)
class Node:
    """A value of the document with its place; mappings and lists hold nodes."""

    value: "str | int | float | bool | dict[str, Node] | list[Node] | None"
    place: Place
    key_place: Place | None = None
    """Where the key stands, for a value in a mapping."""

    def child(self, key: str | int) -> "Node | None":
        """The value at a key or an index; None when there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            return self.value[key]
        return None

    def plain(self) -> Any:
        """Python values: dict, tuple, and scalars; strings are `Text`."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return tuple(node.plain() for node in self.value)
        if isinstance(self.value, str):
            text = Text(self.value)
            text.said_in = self.place.folder
            return text
        return self.value


def read_file(path: Path) -> Node:
    """The document in a YAML file.

    Raises:
        SpecError: the file cannot be read or is not strict YAML.
    """
    start = Place(str(path), 1, 1, path.parent)
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise _fault("E001", f"cannot read the file: {reason}", start) from None
    if len(raw) > MAX_BYTES:
        raise _fault("E001", f"the file has {len(raw):,} bytes; at most {MAX_BYTES:,}", start)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        place = replace(start, line=line)
        raise _fault("E001", f"not UTF-8 text (byte {error.start:,})", place) from None
    return read_text(text, start)


def read_text(text: str, start: Place) -> Node:
    """The document in a text that stands at `start`; see `read_file`."""
    _refuse_conflict_markers(text, start)
    builder = _Builder(start)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, start) from None
    if builder.faults:
        raise SpecError(builder.faults)
    if builder.root is None:
        raise _fault("E008", "the file is empty; it should describe an experiment", start)
    return builder.root


@dataclass
class _Open:
    """A mapping or list whose end has not come yet."""

    value: "dict[str, Node] | list[Node]"
    place: Place
    anchor: str | None
    key_place: Place | None
    pending_key: str | None = None
    pending_place: Place | None = None


class _Builder:
    """Makes nodes from parser events; collects faults so that all are told at once."""

    def __init__(self, start: Place) -> None:
        self.root: Node | None = None
        self.faults: list[Diagnostic] = []
        self._start = start
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._num_nodes = 0
        self._num_documents = 0

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._num_documents += 1
            if self._num_documents > 1:
                self._fault("E002", "a second document (`---`); one file is one experiment", event)
        elif isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._take_alias(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._take_start(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self._stack.pop()
            self._add(Node(done.value, done.place, done.key_place), done.anchor)

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        place = self._place(event)
        if self._expects_key():
            self._take_key(event.value, place, is_plain=event.implicit[0])
            return
        value: Any = event.value
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._fault("E006", f"the tag {event.tag} is not allowed; write plain YAML", event)
        elif event.implicit[0] and not event.style and event.tag is None:
            try:
                value = read_scalar(event.value, place)
            except SpecError as error:
                self.faults += error.diagnostics
        self._add(Node(value, place, self._key_place()), event.anchor)

    def _take_key(self, key: str, place: Place, *, is_plain: bool) -> None:
        top = self._stack[-1]
        assert isinstance(top.value, dict)
        if key in top.value:
            first = top.value[key].key_place
            assert first is not None
            message = f"the key {key!r} stands twice; it is already on line {first.line}"
            self.faults.append(Diagnostic("E003", message, place))
        elif is_plain and key == "<<":
            message = "merge keys (<<) are YAML 1.1; use `extends`, or write the fields out"
            self.faults.append(Diagnostic("E006", message, place))
        top.pending_key, top.pending_place = key, place

    def _take_alias(self, event: yaml.AliasEvent) -> None:
        if self._expects_key():
            self._fault("E009", "a key must be plain text", event)
            self._take_key(f"*{event.anchor}", self._place(event), is_plain=False)
            return
        target = self._anchors.get(event.anchor or "")
        if target is None:
            self._fault("E002", f"the alias *{event.anchor} has no finished anchor", event)
            self._add(Node(None, self._place(event), self._key_place()), None)
            return
        node, size = target
        self._count(size, event)
        self._add(replace(node, key_place=self._key_place()), None)

    def _take_start(self, event: Any) -> None:
        if self._expects_key():
            self._fault("E009", "a key must be plain text, not a list or a mapping", event)
            self._take_key(f"?{len(self._stack)}", self._place(event), is_plain=False)
        if len(self._stack) >= MAX_DEPTH:
            place = self._place(event)
            raise _fault("E007", f"nested deeper than {MAX_DEPTH} levels", place)
        if event.tag not in (None, "!"):
            self._fault("E006", f"the tag {event.tag} is not allowed; write plain YAML", event)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(value, self._place(event), event.anchor, self._key_place()))

    def _add(self, node: Node, anchor: str | None) -> None:
        self._count(1, None)
        if anchor is not None:
            self._anchors[anchor] = (node, _size(node))
        if not self._stack:
            self.root = self.root or node
            return
        top = self._stack[-1]
        if isinstance(top.value, list):
            top.value.append(node)
        else:
            assert top.pending_key is not None
            top.value[top.pending_key] = node
            top.pending_key = top.pending_place = None

    def _expects_key(self) -> bool:
        top = self._stack[-1] if self._stack else None
        return top is not None and isinstance(top.value, dict) and top.pending_key is None

    def _key_place(self) -> Place | None:
        return self._stack[-1].pending_place if self._stack else None

    def _count(self, number: int, event: Any) -> None:
        self._num_nodes += number
        if self._num_nodes > MAX_NODES:
            place = self._place(event) if event else self._start
            raise _fault("E007", f"more than {MAX_NODES:,} values once aliases are followed", place)

    def _place(self, event: Any) -> Place:
        return _shift(self._start, event.start_mark.line, event.start_mark.column)

    def _fault(self, code: str, message: str, event: Any) -> None:
        self.faults.append(Diagnostic(code, message, self._place(event)))


def _size(node: Node) -> int:
    """Values in a tree, itself included."""
    return sum(1 for _ in _walk(node))


def _walk(node: Node) -> Iterator[Node]:
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        if isinstance(current.value, dict):
            waiting += current.value.values()
        elif isinstance(current.value, list):
            waiting += current.value


def _shift(start: Place, line: int, column: int) -> Place:
    first = start.column if line == 0 else 1
    return replace(start, line=start.line + line, column=first + column)


def _refuse_conflict_markers(text: str, start: Place) -> None:
    match = _CONFLICT.search(text)
    if match:
        place = replace(start, line=start.line + text.count("\n", 0, match.start()))
        raise _fault("E004", "a Git conflict marker; finish the merge first", place)


def _syntax_error(error: yaml.YAMLError, text: str, start: Place) -> SpecError:
    if isinstance(error, yaml.reader.ReaderError):
        position = error.position if isinstance(error.position, int) else 0
        place = replace(start, line=start.line + text.count("\n", 0, position))
        return _fault("E001", "a character that YAML does not allow (binary data?)", place)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = _shift(start, mark.line, mark.column) if mark else start
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or (mark and line[mark.column :][:1] == "\t"):
        return _fault("E005", "a tab in the indentation; YAML wants spaces", place)
    problem = getattr(error, "problem", None) or str(error)
    return _fault("E002", f"not YAML: {problem}", place)


def _fault(code: str, message: str, place: Place) -> SpecError:
    return SpecError([Diagnostic(code, message, place)])
