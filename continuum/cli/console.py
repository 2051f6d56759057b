"""Print the results of commands, as text or as JSON.

A command returns a `Result`; `show` prints it. Results go to stdout, everything else to stderr.
On a terminal, rich draws tables; a file or a pipe gets aligned text, which is easier to search,
without importing rich: that would take longer than planning.
"""

import codecs
import errno
import json
import os
import re
import sys
import termios
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import typer

from continuum.errors import UsageError
from continuum.runs.file_names import encodable_json
from continuum.suggestions import did_you_mean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

PIPE_WIDTH = 200
MAX_DRAWN = 500
"""Rows above which a table is not drawn by rich on a terminal either."""
GAP = "  "
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class Verbosity(IntEnum):
    """How much a command prints."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_VERBOSITY: ContextVar[Verbosity] = ContextVar("verbosity", default=Verbosity.NORMAL)
_WANTS_JSON: ContextVar[bool] = ContextVar("wants_json", default=False)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only print results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")]


def _set_json(wanted: bool) -> bool:
    _WANTS_JSON.set(wanted)
    return wanted


AsJson = Annotated[
    bool, typer.Option("--json", callback=_set_json, help="Print the result as a JSON document.")
]
"""An option of every command that returns a `Result`; `show` looks at it."""


def verbosity() -> Verbosity:
    """How much to print."""
    return _VERBOSITY.get()


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Set how much to print; `verbose` wins."""
    if verbose:
        _VERBOSITY.set(Verbosity.VERBOSE)
    elif quiet:
        _VERBOSITY.set(Verbosity.QUIET)


def wants_json() -> bool:
    """Whether to print JSON; errors in the spec are then a document too."""
    return _WANTS_JSON.get()


class Styled(NamedTuple):
    """A text with a style of rich's, such as `bold red`."""

    text: str
    style: str


Cell = str | Styled


@dataclass(frozen=True)
class Columns:
    """A table; a cell may have several lines."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def drawn(self) -> "Table":
        """The table for a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0))
        for heading in self.headings:
            table.add_column(heading, overflow="fold", header_style="bold")
        for row in self.rows:
            cells = (cell if isinstance(cell, Styled) else Styled(cell, "") for cell in row)
            table.add_row(*(Text(cell.text, cell.style) for cell in cells))
        return table

    def plain(self) -> str:
        """Aligned text, each column as wide as its widest cell."""
        lines = [list(self.headings)]
        for row in self.rows:
            cells = [_text(cell).split("\n") for cell in row]
            for number in range(max(map(len, cells))):
                lines.append([cell[number] if number < len(cell) else "" for cell in cells])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines)


class Result(ABC):
    """Result of a command: a document for programs; lines, tables and trees for people."""

    schema: ClassVar[str]
    """Name and version of the document."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """The document, without its `schema`."""

    @abstractmethod
    def parts(self) -> "Iterable[str | Styled | Columns | Text | Tree]":
        """The result for people, from top to bottom."""

    def finish(self) -> None:  # noqa: B027  # most results have nothing to raise
        """Raise an error that sets the exit code, after the result is printed."""


def show(result: Result) -> None:
    """Print a result on stdout."""
    if wants_json():
        print_json({"schema": result.schema, **result.as_json()})
        return
    for part in result.parts():
        _print_part(part)


def drop_closed_terminal() -> None:
    """Discard what is printed to a terminal that was closed: each write would fail with EIO."""
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:  # ENOTTY for a file or a pipe
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def results() -> "Console":
    """Rich's console for results, with a fixed width for files and pipes."""
    from rich.console import Console  # slow to import

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(width=PIPE_WIDTH)
    return console


def print_json(document: dict[str, Any]) -> None:
    """Print one document on stdout."""
    assert "schema" in document, "every document names its schema"
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    print_json_text(encodable_json(text))


def print_json_text(text: str) -> None:
    """Print JSON on stdout, as ASCII if the encoding is not UTF-8."""
    if codecs.lookup(sys.stdout.encoding).name != "utf-8":
        text = _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)
    print(text)


def _print_part(part: "str | Styled | Columns | Text | Tree") -> None:
    if isinstance(part, str):
        print(part)
    elif isinstance(part, Columns):
        if _is_for_people() and len(part.rows) <= MAX_DRAWN:
            results().print(part.drawn())
        else:
            print(part.plain())
    elif not isinstance(part, Styled):
        from rich.text import Text

        results().print(part, highlight=False, soft_wrap=isinstance(part, Text))
    elif _is_for_people():
        from rich.text import Text

        results().print(Text(part.text, part.style))
    else:
        print(part.text)


def _is_for_people() -> bool:
    """Whether stdout is a terminal or FORCE_COLOR is set (https://force-color.org)."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Styled) else cell


def check_choice(option: str, value: str, known: Iterable[str]) -> None:
    """Check the value of an option.

    Raises:
        UsageError: it is not one of the known values.
    """
    choices = tuple(map(str, known))
    if value not in choices:
        listed = ", ".join(choices)
        hint = did_you_mean(value, choices)
        raise UsageError(f"{option} {value}: must be one of {listed}{hint}")
