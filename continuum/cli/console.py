"""What a command says: the one place that prints results, in words or as JSON.

A command returns a `Result`; `show` prints it. Results go to stdout, everything else to stderr.
On a terminal rich draws the columns; a file or a pipe has no width and no colours, gets aligned
text that is easier to search, and rich is not imported: drawing would cost more than planning.
"""

import codecs
import inspect
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import typer

from continuum.runs.file_names import encodable_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

PIPE_WIDTH = 200
MAX_DRAWN = 500
"""A longer table is not drawn on a terminal either: nobody reads it there."""
GAP = "  "
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class Verbosity(IntEnum):
    """How much a command says."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_VERBOSITY: ContextVar[Verbosity] = ContextVar("verbosity", default=Verbosity.NORMAL)
_WANTS_JSON: ContextVar[bool] = ContextVar("wants_json", default=False)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only print results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as a JSON document.")]


def verbosity() -> Verbosity:
    """What the user asked for."""
    return _VERBOSITY.get()


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Take what the options say; of both, the louder."""
    if verbose:
        _VERBOSITY.set(Verbosity.VERBOSE)
    elif quiet and verbosity() is not Verbosity.VERBOSE:
        _VERBOSITY.set(Verbosity.QUIET)


def wants_json() -> bool:
    """Whether the command was asked for JSON: then errors in the spec are a document too."""
    return _WANTS_JSON.get()


class Styled(NamedTuple):
    """A text with rich's name for how it looks: `bold red`."""

    text: str
    style: str


Cell = str | Styled


@dataclass(frozen=True)
class Columns:
    """A table; a cell may have several lines."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def drawn(self) -> "Table":
        """For a terminal."""
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
        """The lines, each column as wide as its widest cell."""
        lines = [list(self.headings)]
        for row in self.rows:
            cells = [_text(cell).split("\n") for cell in row]
            for number in range(max(map(len, cells))):
                lines.append([cell[number] if number < len(cell) else "" for cell in cells])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines)


class Result(ABC):
    """What a command found: a document for programs; lines, tables and trees for people."""

    schema: ClassVar[str]
    """The document's name and version."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """The document, without its `schema`."""

    @abstractmethod
    def parts(self) -> "Iterable[str | Styled | Columns | Text | Tree]":
        """The same for people, from top to bottom."""

    def finish(self) -> None:  # noqa: B027  # most have nothing more to say
        """Raise what the exit code is to tell, after the result was printed."""


def show(result: Result) -> None:
    """Print a result on stdout."""
    if wants_json():
        print_json({"schema": result.schema, **result.as_json()})
        return
    for part in result.parts():
        _print_part(part)


def command(function: Callable[..., Result | None]) -> Callable[..., None]:
    """A function as a command: with `-q` and `-v`, and with `--json` where it returns a result."""
    own = inspect.signature(function)
    shared: dict[str, Any] = {"quiet": Quiet, "verbose": Verbose}
    if own.return_annotation is not None:
        shared["as_json"] = AsJson

    @wraps(function)
    def wrapped(*arguments: Any, quiet: bool, verbose: bool, **options: Any) -> None:
        set_verbosity(quiet=quiet, verbose=verbose)
        _WANTS_JSON.set(bool(options.get("as_json")))
        own_options = {it: value for it, value in options.items() if it in own.parameters}
        result = function(*arguments, **own_options)
        if result is not None:
            show(result)
            result.finish()

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in shared.items()
    ]
    wrapped.__signature__ = own.replace(  # type: ignore[attr-defined]  # read by `inspect`
        parameters=[*own.parameters.values(), *more]
    )
    wrapped.__annotations__ = {**function.__annotations__, **shared}
    return wrapped


def results() -> "Console":
    """Rich's console for results: as wide as the terminal, or wide enough for a file or a pipe."""
    from rich.console import Console  # slow to import

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(width=PIPE_WIDTH)
    return console


def print_json(document: dict[str, Any]) -> None:
    """One document on stdout; it names its schema."""
    assert "schema" in document, "readers need to know what they read"
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    print_json_text(encodable_json(text))


def print_json_text(text: str) -> None:
    """JSON on stdout, the same document in any encoding: ASCII alone where that is not UTF-8."""
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
    """Whether stdout is a terminal, or is to be treated as one (https://force-color.org)."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Styled) else cell
