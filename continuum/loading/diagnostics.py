"""What is wrong with a spec: code, place, message, suggestion; and how it is shown.

For people (`render`), for programs (`as_document`), for GitHub's review of a pull request
(`as_annotations`).
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import filterfalse
from pathlib import Path
from typing import Any, Literal

from continuum.errors import ContinuumError
from continuum.runs.file_names import encodable

OVERRIDE = "--set "
"""Begins the `file` of a place on the command line."""
SCHEMA = "continuum.diagnostics/1"
"""Of the document for programs."""
MAX_MISTAKES = 3_000
"""Of one spec: what is wilder than that is not looked through to its end."""
MAX_BYTES = 2 << 20
"""Of a file. The largest specs that people write have a hundredth of it."""
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
    severity: Literal["error", "warning"] = "error"
    shows_source: bool = True
    """Whether a message may repeat the line: not when a secret stands there."""

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


Lines = Mapping[tuple[str, int], str]
"""Lines of files by name and number."""


class SpecError(ContinuumError):
    """The spec is wrong; holds every mistake that was found."""

    exit_code = 3

    def __init__(
        self, diagnostics: Iterable[Diagnostic], lines: Lines | None = None, *, first: str = ""
    ) -> None:
        """The mistakes in the order of their places, those in the file `first` before others."""
        self.diagnostics: Sequence[Diagnostic] = in_order(diagnostics, first)
        self.lines = lines if lines is not None else source_lines(self.diagnostics)
        """Read now: the files may be gone when the error is shown."""
        super().__init__(render(self.diagnostics, lines=self.lines))

    def renamed(self, old: str, new: str) -> "SpecError":
        """The same mistakes in files that the reader knows by another name than `old…`."""
        return SpecError(
            renamed(self.diagnostics, old, new),
            {(file.replace(old, new), line): text for (file, line), text in self.lines.items()},
        )


def renamed(diagnostics: Iterable[Diagnostic], old: str, new: str) -> Iterator[Diagnostic]:
    """Diagnostics of files that the reader knows by another name than `old…`."""
    for it in diagnostics:
        place = replace(it.place, file=it.place.file.replace(old, new))
        yield replace(it, message=it.message.replace(old, new), place=place)


Role = Literal["place", "error", "warning", "source", "hint"]
Paint = Callable[[str, Role], str]
"""Gives a text the look of its role."""


def plainly(text: str, _role: Role) -> str:
    """The `Paint` of files and pipes: no colours."""
    return text


def render(
    diagnostics: Sequence[Diagnostic], paint: Paint = plainly, lines: Lines | None = None
) -> str:
    """For people: place, message, the line with a caret, and the suggestion.

    Args:
        diagnostics: What to say, in this order.
        paint: Colours, for a terminal.
        lines: What stands at the places, if it was read before.
    """
    lines = lines if lines is not None else source_lines(diagnostics)
    parts = [_render_one(diagnostic, lines, paint) for diagnostic in diagnostics]
    if len(parts) > 1:
        noun = "mistakes" if has_errors(diagnostics) else "warnings"
        parts.append(f"{len(parts)} {noun}")
    return "\n".join(parts)


def as_document(diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    """For programs: one JSON document, whether or not there is anything to say."""
    return {
        "schema": SCHEMA,
        "ok": not has_errors(diagnostics),
        "diagnostics": [diagnostic.as_json() for diagnostic in diagnostics],
    }


def headline(diagnostic: Diagnostic, paint: Paint = plainly) -> str:
    """The diagnostic in one line: `FILE:LINE:COLUMN: error E101: what is wrong`."""
    head = paint(f"{diagnostic.severity} {diagnostic.code}", diagnostic.severity)
    at = paint(_printable(str(diagnostic.place)), "place")
    return f"{at}: {head}: {_printable(diagnostic.message)}"


def as_annotations(diagnostics: Sequence[Diagnostic], repository: Path) -> str:
    """For GitHub Actions: a workflow command for each, which shows it at its line of a diff.

    Args:
        diagnostics: What to say, in this order.
        repository: The root of the checkout; GitHub wants paths relative to it.
    """
    return "\n".join(_annotation(diagnostic, repository) for diagnostic in diagnostics)


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether anything in it makes the spec unusable."""
    return any(diagnostic.severity == "error" for diagnostic in diagnostics)


def in_order(diagnostics: Iterable[Diagnostic], first: str = "") -> tuple[Diagnostic, ...]:
    """By place, each once, those in the file `first` before others."""
    different = {_sameness(one): one for one in diagnostics}.values()
    return tuple(sorted(different, key=lambda one: (one.place.file != first, _order(one))))


def _sameness(diagnostic: Diagnostic) -> tuple[str, Place, str]:
    """Equal for one mistake that is met twice, such as a key in a mapping that aliases repeat."""
    is_of_key = diagnostic.code == "E101"
    return (diagnostic.code, diagnostic.place, "" if is_of_key else diagnostic.message)


def _order(diagnostic: Diagnostic) -> tuple[bool, str, int, int, str]:
    place = diagnostic.place
    return (place.is_override, place.file, place.line, place.column, diagnostic.code)


def _render_one(diagnostic: Diagnostic, sources: Lines, paint: Paint) -> str:
    place, severity = diagnostic.place, diagnostic.severity
    lines = [headline(diagnostic, paint)]
    source = sources.get((place.file, place.line))
    if source is not None and diagnostic.shows_source:
        number = str(place.line)
        start = min(place.column - 1, len(source))
        first = max(0, start - MAX_SHOWN_LINE // 2)
        shown = source[first : first + MAX_SHOWN_LINE]
        rest = source[start : start + MAX_SHOWN_LINE]
        caret = " " * (start - first) + "^" * _caret_length(rest)
        lines += [
            f"{paint(f'  {number} | ', 'source')}{shown}",
            paint(f"  {' ' * len(number)} | ", "source") + paint(caret[:MAX_SHOWN_LINE], severity),
        ]
    if diagnostic.suggestion:
        lines.append(f"  {paint(_printable(_hint(diagnostic.suggestion)), 'hint')}")
    return "\n".join(lines)


def _hint(suggestion: str) -> str:
    return suggestion if " " in suggestion else f"did you mean {suggestion!r}?"


def _annotation(diagnostic: Diagnostic, repository: Path) -> str:
    """`::error file=…,line=…,col=…,title=…::message`; an override stands in no file."""
    place = diagnostic.place
    message, properties = diagnostic.message, {"title": diagnostic.code}
    if place.is_override:
        message = f"{place}: {message}"
    else:
        path = Path(os.path.relpath(place.file, repository)).as_posix()
        at = {"file": path, "line": str(place.line), "col": str(place.column)}
        properties = {**at, **properties}
    if diagnostic.suggestion:
        message += f"\n{_hint(diagnostic.suggestion)}"
    listed = ",".join(f"{name}={_as_property(value)}" for name, value in properties.items())
    return f"::{diagnostic.severity} {listed}::{_as_data(message)}"


def _as_data(text: str) -> str:
    """As GitHub reads the message of a workflow command (`@actions/core`, command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _as_property(text: str) -> str:
    return _as_data(text).replace(":", "%3A").replace(",", "%2C")


def _caret_length(rest: str) -> int:
    """Up to the end of the key or value that begins `rest`."""
    if rest[:1] in ("{", "["):
        return 1
    quoted = re.match(r"""("(\\.|[^"])*"|'[^']*')""", rest)
    word = quoted[0] if quoted else re.split(r":(?= |$)|[,}\]](?= |$|[,}\]])| #", rest)[0]
    return max(1, len(word.rstrip()))


def source_lines(diagnostics: Sequence[Diagnostic]) -> dict[tuple[str, int], str]:
    """The lines that the diagnostics are about, safe to print; each file is read once."""
    wanted: dict[str, set[int]] = {}
    for diagnostic in diagnostics:
        if not diagnostic.place.is_override:
            wanted.setdefault(diagnostic.place.file, set()).add(diagnostic.place.line)
    found: dict[tuple[str, int], str] = {}
    for name, numbers in wanted.items():
        try:
            lines = read_bytes(Path(name)).decode("utf-8-sig", errors="replace").split("\n")
        except (OSError, ValueError):
            continue  # a message without its line is better than none
        found |= {
            (name, number): _printable(lines[number - 1].rstrip("\r"))
            for number in numbers
            if number <= len(lines)
        }
    return found


def read_bytes(path: Path) -> bytes:
    """A file's bytes, but of a larger one than is allowed only the beginning, a byte too long.

    Raises:
        OSError: it cannot be read, or is no ordinary file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor has no path
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not an ordinary file")
        raw: bytes | None = file.read(MAX_BYTES + 1)
    if raw is None:  # one of /proc that has nothing to say yet
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return raw


def _printable(line: str) -> str:
    """What a file or a command line says must not steer the terminal."""
    line = encodable(line)
    for letter in filterfalse(str.isprintable, set(line)):
        line = line.replace(letter, " ")
    return line
