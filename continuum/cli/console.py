"""Where what a command says goes, how loud it is, and in which colours.

Results go to stdout, everything else to stderr. `-q` leaves results and errors; `-v` adds the
tracebacks of errors, for reports of bugs. Both stand before or after the command's name.
"""

import codecs
import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum
from functools import wraps
from typing import TYPE_CHECKING, Any

import typer

from continuum.file_names import encodable_json

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 200
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class Verbosity(IntEnum):
    """How much a command says."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_VERBOSITY: ContextVar[Verbosity] = ContextVar("verbosity", default=Verbosity.NORMAL)
_WANTS_JSON: ContextVar[bool] = ContextVar("wants_json", default=False)


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
    """Whether the command was asked for its document: then its errors in the spec are one too."""
    return _WANTS_JSON.get()


def quiet_option() -> Any:
    """`-q`, for a signature."""
    return typer.Option(False, "--quiet", "-q", help="Say only results and errors.")


def verbose_option() -> Any:
    """`-v`, for a signature."""
    return typer.Option(False, "--verbose", "-v", help="Show the traceback of an error.")


def with_verbosity(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options `-q` and `-v` besides its own; its `as_json` is noted."""

    @wraps(command)
    def wrapped(*arguments: Any, quiet: bool, verbose: bool, **options: Any) -> None:
        set_verbosity(quiet=quiet, verbose=verbose)
        _WANTS_JSON.set(bool(options.get("as_json")))
        command(*arguments, **options)

    kind, own = inspect.Parameter.KEYWORD_ONLY, inspect.signature(command)
    more = [
        inspect.Parameter("quiet", kind, default=quiet_option(), annotation=bool),
        inspect.Parameter("verbose", kind, default=verbose_option(), annotation=bool),
    ]
    wrapped.__signature__ = own.replace(  # type: ignore[attr-defined]  # read by `inspect`
        parameters=[*own.parameters.values(), *more]
    )
    wrapped.__annotations__ = {**command.__annotations__, "quiet": bool, "verbose": bool}
    return wrapped


def results() -> "Console":
    """The console for results: as wide as the terminal, or wide enough for a file or a pipe."""
    from rich.console import Console  # slow to import, and needed to draw alone

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
