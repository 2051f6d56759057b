"""Strict YAML: every value knows its file, line and column, and nothing is guessed.

PyYAML's parser makes the events; the tree is built from them here, without recursion, so that
aliases, depth and duplicate keys are under control whatever the input.
"""

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
"""Levels after aliases are followed: what walks the tree may then recurse."""
_MERGE = "\0<<"
"""The key of what is merged, once that is told."""
MAX_UNQUOTED = 20
"""Variables without quotes between brackets: so many are read as they are meant."""
MAX_NODES = 70_000
"""Values after aliases are followed: a chain of 10,000 stages is below it, an alias bomb is not."""


class Text(str):
    """A string that knows which folder its file lies in; `LocalPath` asks for it."""

    said_in: Path


@dataclass(frozen=True)
class Node:
    """A value of the document with its place; mappings and lists hold nodes."""

    value: "str | int | float | bool | dict[str, Node] | list[Node] | None"
    place: Place
    key_place: Place | None = None
    """The place of the key, for a value in a mapping."""
    removes: bool = False
    """Whether it is a null that takes away the value of an earlier file, or of the file itself."""

    def child(self, key: str | int) -> "Node | None":
        """The value at a key or an index; None when there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            return self.value[key]
        return None

    def at(self, path: Iterable[str | int]) -> "Node | None":
        """The value at a path below this one; None when there is none."""
        node: Node | None = self
        for part in path:
            node = node.child(part) if node is not None else None
        return node

    def put(
        self, path: tuple[str | int, ...], value: "Node | None", name: str | None = None
    ) -> "Node":
        """This value with another one at a path below it; None takes away what is there.

        Args:
            name: The new key of what is there.
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
        """Plain values as nodes that stand at one place."""
        if isinstance(value, dict):
            return Node({str(k): Node.of(v, place) for k, v in value.items()}, place, place)
        if isinstance(value, (tuple, list)):
            return Node([Node.of(item, place) for item in value], place, place)
        return Node(value, place, place)

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


def read_file(path: Path, mild: list[Diagnostic]) -> Node:
    """The document in a YAML file.

    Args:
        path: The file.
        mild: Mistakes that do not hinder further checks are appended here.

    Raises:
        SpecError: the file cannot be read or is not strict YAML.
    """
    start = Place(str(path), 1, 1, path.parent)
    try:
        raw = read_bytes(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _fault("E001", f"cannot read the file: {reason}", start) from None
    if len(raw) > MAX_BYTES:
        raise _fault("E001", f"the file is larger than {MAX_BYTES:,} bytes", start)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        place = replace(start, line=line)
        message = f"not UTF-8 text (at byte {error.start:,}); save the file as UTF-8"
        raise _fault("E001", message, place) from None
    return read_text(text, start, mild)


def read_text(text: str, start: Place, mild: list[Diagnostic], max_nodes: int = MAX_NODES) -> Node:
    """The document in a text that stands at `start`; see `read_file`."""
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
                before = [one for one in builder.faults if one.place.line != stop.place.line]
                raise SpecError([*quoted, *before, stop]) from None
            quoted.append(stop)
            text = masked
    if builder.is_unusable:
        raise SpecError([*quoted, *builder.faults])
    if builder.root is None:
        raise _fault("E008", "the file is empty; it should describe an experiment", start)
    mild += [*quoted, *builder.faults]
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
    size: int = 1
    """Values so far, this one and those behind aliases included."""
    height: int = 0
    """Levels below this one so far."""

    def include(self, size: int, height: int) -> None:
        self.size += size
        self.height = max(self.height, height + 1)


class _Builder:
    """Makes nodes from parser events; collects faults so that all are told at once."""

    def __init__(self, text: str, start: Place, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self.root: Node | None = None
        self.faults: list[Diagnostic] = []
        self.is_unusable = False
        """Whether a mistake hinders checking the rest of the file."""
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
                message = "a second document (`---`); one file is one experiment"
                self._fault("E002", message, event)
                raise SpecError(self.faults)
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
            place = self._key_place() or place  # a reader looks for `key:`, not for what is absent
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._fault("E006", tag_message(event.tag), event, is_mild=True)
        elif event.implicit[0] and not event.style and event.tag is None:
            try:
                value = read_scalar(value)
            except ValueError as error:
                self._fault("E104", str(error), event, is_mild=True)
        if (char := unprintable_in(event.value)) is not None:
            message = f"a control character ({char}) in a value"
            self._fault("E104", message, event, is_mild=True)
        self._add(Node(value, place, self._key_place()), event.anchor)

    def _take_key(self, event: yaml.ScalarEvent, place: Place) -> None:
        top, key = self._stack[-1], unmask(event.value)
        assert isinstance(top.value, dict)
        if key in top.value:
            first = top.value[key].key_place
            assert first is not None
            message = f"the key {key!r} stands twice; it is already on line {first.line}"
            self._fault("E003", message, event, is_mild=True)
        elif event.implicit[0] and key == "<<":
            message = "merge keys (<<) are YAML 1.1; use `extends`, or write the fields out"
            self._fault("E006", message, event, is_mild=True)
            key = _MERGE
        elif event.tag not in (None, "!"):
            self._fault("E006", tag_message(event.tag), event, is_mild=True)
        elif not key:
            self._fault("E009", "the key before this `:` is empty", event)
        elif key.startswith("-"):
            message = "a key cannot begin with `-`; an item of a list is `- ` with a space"
            self._fault("E009", message, event)
        elif not key.isprintable():
            is_mild = key[0].isprintable()  # else it may be meant as indentation
            self._fault("E009", f"{invisible_in(key)} in a key", event, is_mild=is_mild)
            key = "".join(char for char in key if char.isprintable())
        top.pending_key, top.pending_place = key, place

    def _take_alias(self, event: yaml.AliasEvent) -> None:
        if self._expects_key():
            self._refuse_key("an alias", event)
        target = self._anchors.get(event.anchor or "")
        if target is None:
            message = f"the alias *{event.anchor} has no anchor &{event.anchor} above it"
            self._fault("E002", message, event, is_mild=True)
            self._add(Node(f"*{event.anchor}", self._place(event), self._key_place()), None)
            return
        node, size, height = target
        self._count(size, event)
        if len(self._stack) + height > MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels once aliases are followed"
            raise _fault("E007", message, self._place(event))
        self._add(replace(node, key_place=self._key_place()), None, size, height)

    def _take_start(self, event: Any) -> None:
        if self._expects_key():
            self._refuse_key("a list or a mapping", event)
        if len(self._stack) >= MAX_DEPTH:
            place = self._place(event)
            raise _fault("E007", f"nested deeper than {MAX_DEPTH} levels", place)
        if event.tag not in (None, "!"):
            self._fault("E006", tag_message(event.tag), event, is_mild=True)
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
        message = f"a key must be plain text, not {found}; quote it if it is meant as text"
        self._fault("E009", message, event)
        raise SpecError(self.faults)

    def _refuse_swallowed_keys(self, event: Any) -> None:
        """A quote that is not closed reaches to the next one, however far that is."""
        first, last = event.start_mark.line, event.end_mark.line
        if any(begins_with_key(line) for line in self._lines[first + 1 : last + 1]):
            line = self._start.line + last
            message = f"a quote is opened here and closed on line {line} only, with keys between"
            place = self._place(event)
            raise SpecError([*self.faults, Diagnostic("E002", message, place)])

    def _key_place(self) -> Place | None:
        return self._stack[-1].pending_place if self._stack else None

    def _count(self, number: int, event: Any) -> None:
        self._num_nodes += number
        if self._num_nodes > self._max_nodes:
            place = self._place(event) if event else self._start
            message = f"more than {self._max_nodes:,} values once aliases are followed"
            raise _fault("E007", message, place)

    def _place(self, event: Any) -> Place:
        line, column = event.start_mark.line, event.start_mark.column
        first = self._start.column if line == 0 else 1
        return Place(self._start.file, self._start.line + line, first + column, self._start.folder)

    def _fault(self, code: str, message: str, event: Any, *, is_mild: bool = False) -> None:
        self.faults.append(Diagnostic(code, message, self._place(event)))
        self.is_unusable = self.is_unusable or not is_mild


def _fault(code: str, message: str, place: Place) -> SpecError:
    return SpecError([Diagnostic(code, message, place)])
