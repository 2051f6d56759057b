"""What is wrong with a spec: code, place, message, suggestion; and how it is shown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.errors import ContinuumError

OVERRIDE = "--set "
"""Begins the `file` of a place on the command line."""
MAX_SHOWN_LINE = 120
"""Letters of a source line that a message repeats, around the mistake."""


@dataclass(frozen=True)
class Place:
    """A position in a file, or in an override; lines and columns count from one."""

    file: str
    line: int
    column: int
    folder: Path
    """What relative paths said here are relative to."""

    @property
    def is_override(self) -> bool:
        """Whether it is on the command line."""
        return self.file.startswith(OVERRIDE)

    def __str__(self) -> str:
        return self.file if self.is_override else f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """One mistake, with its place."""

    code: str
    message: str
    place: Place
    path: str = ""
    """Dotted, as in `stages.pretrain.optimizer.lr`."""
    suggestion: str | None = None
    severity: str = "error"

    def as_json(self) -> dict[str, Any]:
        """The diagnostic as the JSON report holds it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "path": self.path,
            "suggestion": self.suggestion,
        }


class SpecError(ContinuumError):
    """The spec is wrong; holds every mistake that was found."""

    exit_code = 3

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        ordered = sorted(dict.fromkeys(diagnostics), key=_order)
        self.diagnostics: Sequence[Diagnostic] = tuple(ordered)
        super().__init__(render(self.diagnostics))


def render(diagnostics: Sequence[Diagnostic]) -> str:
    """For people: place, message, the line with a caret, and the suggestion."""
    lines = _source_lines(diagnostics)
    parts = [_render_one(diagnostic, lines) for diagnostic in diagnostics]
    if len(parts) > 1:
        parts.append(f"{len(parts)} mistakes")
    return "\n".join(parts)


def _order(diagnostic: Diagnostic) -> tuple[bool, str, int, int, str]:
    place = diagnostic.place
    return (place.is_override, place.file, place.line, place.column, diagnostic.code)


def _render_one(diagnostic: Diagnostic, sources: Mapping[tuple[str, int], str]) -> str:
    place = diagnostic.place
    lines = [f"{place}: {diagnostic.severity} {diagnostic.code}: {diagnostic.message}"]
    source = sources.get((place.file, place.line))
    if source is not None:
        number = str(place.line)
        start = min(place.column - 1, len(source))
        first = max(0, start - MAX_SHOWN_LINE // 2)
        shown = source[first : first + MAX_SHOWN_LINE]
        caret = " " * (start - first) + "^" * _caret_length(source[start:])
        lines += [f"  {number} | {shown}", f"  {' ' * len(number)} | {caret[:MAX_SHOWN_LINE]}"]
    if diagnostic.suggestion:
        is_one_word = " " not in diagnostic.suggestion
        hint = f"did you mean {diagnostic.suggestion!r}?" if is_one_word else diagnostic.suggestion
        lines.append(f"  {hint}")
    return "\n".join(lines)


def _caret_length(rest: str) -> int:
    """Up to the end of the key or value that begins `rest`."""
    if rest[:1] in ("{", "["):
        return 1
    quoted = re.match(r"""("(\\.|[^"])*"|'[^']*')""", rest)
    word = quoted[0] if quoted else re.split(r":(?= |$)|[,}\]](?= |$|[,}\]])| #", rest)[0]
    return max(1, len(word.rstrip()))


def _source_lines(diagnostics: Sequence[Diagnostic]) -> dict[tuple[str, int], str]:
    """The lines that the diagnostics are about, safe to print; each file is read once."""
    wanted: dict[str, set[int]] = {}
    for diagnostic in diagnostics:
        if not diagnostic.place.is_override:
            wanted.setdefault(diagnostic.place.file, set()).add(diagnostic.place.line)
    found = {}
    for name, numbers in wanted.items():
        try:
            with Path(name).open(encoding="utf-8-sig", errors="replace") as file:
                for number, line in enumerate(file, start=1):
                    if number in numbers:
                        found[name, number] = _printable(line.rstrip("\r\n"))
        except (OSError, ValueError):
            continue  # a message without its line is better than none
    return found


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line)
