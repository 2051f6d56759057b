"""Output of diagnostics: for people, for programs, or for GitHub."""

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from continuum.cli.console import check_choice, print_json
from continuum.loading.diagnostics import (
    Diagnostic,
    Lines,
    Paint,
    Role,
    as_annotations,
    as_document,
    plainly,
    render,
)

VARIABLE = "CONTINUUM_FORMAT"
"""Sets the format of all commands for errors in a spec; `--format` overrides it."""
_COLOURS: dict[Role, dict[str, Any]] = {
    "place": {"bold": True},
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "source": {"fg": "blue"},
    "hint": {"fg": "cyan"},
}


class Format(StrEnum):
    """The format of diagnostics."""

    HUMAN = "human"
    JSON = "json"
    GITHUB = "github"

    @classmethod
    def parse(cls, name: str) -> "Format":
        """Return the format that `--format` names.

        Raises:
            UsageError: there is none.
        """
        check_choice("--format", name, cls)
        return cls(name)


FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        parser=Format.parse,
        metavar="|".join(Format),
        autocompletion=lambda: list(Format),
        envvar=VARIABLE,
        help="Output for people, one JSON document on stdout, or GitHub annotations.",
    ),
]


def show_findings(
    diagnostics: Sequence[Diagnostic], output_format: Format, lines: Lines | None = None
) -> None:
    """Print diagnostics for people on stderr, in other formats on stdout."""
    if output_format is Format.JSON:
        print_json(as_document(diagnostics))
    elif diagnostics and output_format is Format.GITHUB:
        print(as_annotations(diagnostics, _repository_root()))
    elif diagnostics:
        print(render(diagnostics, _paint_for(sys.stderr), lines), file=sys.stderr)


def format_of_environment() -> Format:
    """Return the format set in the environment; for people by default."""
    wanted = os.environ.get(VARIABLE, "")
    return Format(wanted) if wanted in list(Format) else Format.HUMAN


def _repository_root() -> Path:
    """The root of the checkout, which GitHub's paths are relative to; else the working folder."""
    if workspace := os.environ.get("GITHUB_WORKSPACE"):
        return Path(workspace)
    here = Path.cwd()
    return next((path for path in (here, *here.parents) if (path / ".git").exists()), here)


def _paint_for(stream: TextIO) -> Paint:
    """Colors on a terminal, unless disabled as in https://no-color.org."""
    is_refused = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return _in_colours if stream.isatty() and not is_refused else plainly


def _in_colours(text: str, role: Role) -> str:
    return typer.style(text, **_COLOURS[role])
