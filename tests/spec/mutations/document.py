"""A YAML text with the place of every key and value, found without the code under test."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Span:
    """A half-open range of letters."""

    start: int
    end: int


@dataclass(frozen=True)
class Entry:
    """A key with its value, or an item of a list."""

    path: Path
    key: Span | None
    value: Span
    form: str
    """`scalar`, `mapping` or `list`."""
    text: str
    """The value as written."""
    in_flow: bool
    """Whether it stands between brackets."""

    @property
    def name(self) -> str:
        """The last key of the path."""
        return str(next(part for part in reversed(self.path) if isinstance(part, str)))

    @property
    def is_quoted(self) -> bool:
        return self.text[:1] in ("'", '"')

    @property
    def word(self) -> str:
        """A scalar without its quotes."""
        return self.text[1:-1] if self.is_quoted else self.text

    @property
    def word_span(self) -> Span:
        quote = int(self.is_quoted)
        return Span(self.value.start + quote, self.value.end - quote)

    def ends(self, *names: str | int) -> bool:
        """Whether the path ends so."""
        return self.path[-len(names) :] == names


class Document:
    """One file; edits return the new text."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All keys and list items, outer before inner; repetitions by alias are left out."""
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        return tuple(self._walk(root, (), in_flow=False))

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their ends."""
        return self.text.split("\n")

    def at(self, path: Path) -> Entry:
        """The entry with this path."""
        return next(entry for entry in self.entries if entry.path == path)

    def below(self, path: Path) -> list[Entry]:
        """The keys or items directly below a path."""
        return [e for e in self.entries if e.path[:-1] == path]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a letter, from one."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    def slice(self, span: Span) -> str:
        return self.text[span.start : span.end]

    def replace(self, span: Span, new: str) -> str:
        """The text with a range replaced."""
        return self.text[: span.start] + new + self.text[span.end :]

    def line_of(self, entry: Entry) -> int:
        """The line where the entry begins, from one."""
        return self.position((entry.key or entry.value).start)[0]

    def with_line(self, number: int, new: str | None) -> str:
        """The text with a line (from one) replaced, or left out."""
        lines = list(self.lines)
        lines[number - 1 : number] = [] if new is None else [new]
        return "\n".join(lines)

    def with_line_after(self, number: int, new: str) -> str:
        """The text with a line put after another."""
        return "\n".join([*self.lines[:number], new, *self.lines[number:]])

    def last_line_of(self, entry: Entry) -> int:
        """The last line that belongs to the entry."""
        kept = self.text[: entry.value.end].rstrip()
        while kept.rpartition("\n")[2].lstrip().startswith("#"):
            kept = kept.rpartition("\n")[0].rstrip()
        return kept.count("\n") + 1

    def indent_of(self, number: int) -> int:
        """Spaces before a line's first letter."""
        line = self.lines[number - 1]
        return len(line) - len(line.lstrip(" "))

    def _walk(self, node: Any, path: Path, *, in_flow: bool) -> Iterator[Entry]:
        in_flow = in_flow or bool(getattr(node, "flow_style", False))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if value.start_mark.index >= key.end_mark.index:
                    yield self._entry((*path, key.value), key, value, in_flow)
                    yield from self._walk(value, (*path, key.value), in_flow=in_flow)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield self._entry((*path, index), None, item, in_flow)
                yield from self._walk(item, (*path, index), in_flow=in_flow)

    def _entry(self, path: Path, key: Any, value: Any, in_flow: bool) -> Entry:
        span = _span(value)
        forms = {yaml.MappingNode: "mapping", yaml.SequenceNode: "list"}
        form = forms.get(type(value), "scalar")
        return Entry(path, key and _span(key), span, form, self.slice(span), in_flow)


def _span(node: Any) -> Span:
    return Span(node.start_mark.index, node.end_mark.index)
