"""Errors and warnings of a spec: code, place, message and suggestion; and how they are printed.

For people (`render`), for programs (`as_document`), and for GitHub's review of a pull request
(`as_annotations`).
"""

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import filterfalse
from pathlib import Path
from typing import Any, Literal

from continuum.errors import ContinuumError
from continuum.runs.file_names import encodable
from continuum.runs.redaction import masked, without_secrets

OVERRIDE = "--set "
"""Prefix of the `file` of a place on the command line."""
SCHEMA = "continuum.diagnostics/1"
"""The schema of the JSON document."""
MAX_ERRORS = 3_000
"""Checking a spec stops at this number of errors."""
MAX_BYTES = 2 << 20
"""Maximum size of a file. The largest specs that people write have a hundredth of it."""
YAML_SUFFIXES = frozenset({".yaml", ".yml"})
MAX_SHOWN_LINE = 120
"""Characters of a source line that are printed, around the error."""


@dataclass(frozen=True)
class Place:
    """A position in a file or an override; lines and columns start at 1."""

    file: str
    line: int
    column: int
    folder: Path
    """The folder that relative paths written here are relative to."""

    @property
    def is_override(self) -> bool:
        """True for a place on the command line."""
        return self.file.startswith(OVERRIDE)

    def __str__(self) -> str:
        return self.file if self.is_override else f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """An error or warning with its place."""

    code: str
    message: str
    place: Place
    path: str = ""
    """Dotted, as in `stages.pretrain.optimizer.lr`."""
    suggestion: str | None = None
    severity: Literal["error", "warning"] = "error"
    shows_source: bool = True
    """True if the line may be printed; False if it contains a secret."""

    def __post_init__(self) -> None:
        """Remove secrets that the texts repeat from the document."""
        object.__setattr__(self, "message", without_secrets(self.message))
        if self.suggestion is not None:
            object.__setattr__(self, "suggestion", without_secrets(self.suggestion))

    def as_json(self) -> dict[str, Any]:
        """Return the diagnostic as a JSON object."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "path": without_secrets(self.path),
            "suggestion": self.suggestion,
        }


Lines = Mapping[tuple[str, int], str]
"""Lines by file name and line number."""


class SpecError(ContinuumError):
    """The spec is invalid; holds all errors that were found."""

    exit_code = 3

    def __init__(
        self, diagnostics: Iterable[Diagnostic], lines: Lines | None = None, *, first: str = ""
    ) -> None:
        """Sort the errors by place, those in the file `first` before others."""
        self.diagnostics: Sequence[Diagnostic] = in_order(diagnostics, first)
        self.lines = lines if lines is not None else source_lines(self.diagnostics)
        """Read now: the files may be gone when the error is printed."""
        super().__init__(render(self.diagnostics, lines=self.lines))

    def renamed(self, old: str, new: str) -> "SpecError":
        """Return the same errors with `new` in place of `old` in file names."""
        return SpecError(
            renamed(self.diagnostics, old, new),
            {(file.replace(old, new), line): text for (file, line), text in self.lines.items()},
        )


def renamed(diagnostics: Iterable[Diagnostic], old: str, new: str) -> Iterator[Diagnostic]:
    """Yield the diagnostics with `new` in place of `old` in file names."""
    for it in diagnostics:
        place = replace(it.place, file=it.place.file.replace(old, new))
        yield replace(it, message=it.message.replace(old, new), place=place)


Role = Literal["place", "error", "warning", "source", "hint"]
Paint = Callable[[str, Role], str]
"""Formats a text for its role."""


def plainly(text: str, _role: Role) -> str:
    """Return the text without colors: the `Paint` for files and pipes."""
    return text


def render(
    diagnostics: Sequence[Diagnostic], paint: Paint = plainly, lines: Lines | None = None
) -> str:
    """Return a report for people: place, message, the line with a caret, and the suggestion.

    Args:
        diagnostics: In the order to print.
        paint: Colors for a terminal.
        lines: The source lines, if they were read before.
    """
    lines = lines if lines is not None else source_lines(diagnostics)
    parts = [_render_one(diagnostic, lines, paint) for diagnostic in diagnostics]
    if len(parts) > 1:
        severities = Counter(diagnostic.severity for diagnostic in diagnostics)
        parts.append(", ".join(_counted(num, noun) for noun, num in sorted(severities.items())))
    return "\n".join(parts)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_document(diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    """Return the JSON document for programs, also if there are no diagnostics."""
    return {
        "schema": SCHEMA,
        "ok": not has_errors(diagnostics),
        "diagnostics": [diagnostic.as_json() for diagnostic in diagnostics],
    }


def headline(diagnostic: Diagnostic, paint: Paint = plainly) -> str:
    """Return the diagnostic in one line: `FILE:LINE:COLUMN: error E101: MESSAGE`."""
    head = paint(f"{diagnostic.severity} {diagnostic.code}", diagnostic.severity)
    at = paint(_printable(str(diagnostic.place)), "place")
    return f"{at}: {head}: {_printable(diagnostic.message)}"


def as_annotations(diagnostics: Sequence[Diagnostic], repository: Path) -> str:
    """Return GitHub workflow commands, which annotate the lines of a pull request.

    Args:
        diagnostics: In the order to print.
        repository: The root of the checkout, which paths are made relative to.
    """
    return "\n".join(_annotation(diagnostic, repository) for diagnostic in diagnostics)


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Return True if any of them is an error."""
    return any(diagnostic.severity == "error" for diagnostic in diagnostics)


def in_order(diagnostics: Iterable[Diagnostic], first: str = "") -> tuple[Diagnostic, ...]:
    """Sort by place without duplicates, those in the file `first` before others."""
    different = {_sameness(one): one for one in diagnostics}.values()
    return tuple(sorted(different, key=lambda one: (one.place.file != first, _order(one))))


def _sameness(diagnostic: Diagnostic) -> tuple[str, Place, str]:
    """Equal for an error that is found twice, such as a key in a mapping that aliases repeat."""
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
    """`::error file=…,line=…,col=…,title=…::message`; an override has no file."""
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
    """Escape the message of a workflow command, as `@actions/core` does in command.ts."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _as_property(text: str) -> str:
    return _as_data(text).replace(":", "%3A").replace(",", "%2C")


def _caret_length(rest: str) -> int:
    """Length of the key or value at the start of `rest`."""
    if rest[:1] in ("{", "["):
        return 1
    quoted = re.match(r"""("(\\.|[^"])*"|'[^']*')""", rest)
    word = quoted[0] if quoted else re.split(r":(?= |$)|[,}\]](?= |$|[,}\]])| #", rest)[0]
    return max(1, len(word.rstrip()))


def source_lines(diagnostics: Sequence[Diagnostic]) -> dict[tuple[str, int], str]:
    """Return the source lines of the diagnostics, safe to print: secrets are masked.

    Only lines of YAML files are shown: `extends`, in a spec from somebody else, may name any file.
    """
    wanted: dict[str, set[int]] = {}
    for diagnostic in diagnostics:
        if not diagnostic.place.is_override and _is_yaml(diagnostic.place.file):
            wanted.setdefault(diagnostic.place.file, set()).add(diagnostic.place.line)
    found: dict[tuple[str, int], str] = {}
    for name, numbers in wanted.items():
        try:
            text = read_bytes(Path(name)).decode("utf-8-sig", errors="replace")
        except (OSError, ValueError):
            continue  # print the message without its line
        lines = (masked(text) if "PRIVATE KEY" in text else text).split("\n")
        found |= {
            (name, number): _printable(masked(lines[number - 1].rstrip("\r")))
            for number in numbers
            if number <= len(lines)
        }
    return found


def _is_yaml(file: str) -> bool:
    """Whether a file, or what a link leads to, is named as YAML."""
    try:
        return not YAML_SUFFIXES.isdisjoint(Path(os.path.realpath(file)).suffixes)
    except ValueError:  # a NUL
        return False


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, at most one more than `MAX_BYTES`.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor has no path
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        raw: bytes | None = file.read(MAX_BYTES + 1)
    if raw is None:  # a file of /proc without data yet
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return raw


def _printable(line: str) -> str:
    """Text from a file or a command line must not control the terminal."""
    line = encodable(line)
    for letter in filterfalse(str.isprintable, set(line)):
        line = line.replace(letter, " ")
    return line
