"""`# continuum: allow W002` in a spec: suppresses a rule on its line or the line below.

A comment alone on its line applies to the next line that is neither blank nor a comment. A reason
may follow the codes, and should.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from continuum.loading.diagnostics import Diagnostic, Place
from continuum.loading.yaml import LOADER

_COMMENT = re.compile(
    r"(?:^|(?<=\s))#\s*continuum:\s*allow\s+(?P<codes>\w+(?:\s*,\s*[A-Za-z]\d+)*)"
)


@dataclass(frozen=True)
class Allowance:
    """A comment that suppresses codes on a line."""

    file: str
    line: int
    """The line it applies to."""
    codes: dict[str, Place]
    """The codes with their places in the comment."""

    def covers(self, finding: Diagnostic) -> bool:
        """Return True if it suppresses the finding."""
        place = finding.place
        return (place.file, place.line) == (self.file, self.line) and finding.code in self.codes


def read_allowances(files: tuple[Path, ...]) -> tuple[Allowance, ...]:
    """Return all allowances in files that are valid YAML."""
    return tuple(found for path in files for found in _read(path))


def _read(path: Path) -> Iterator[Allowance]:
    text = path.read_text(encoding="utf-8-sig")
    lines = text.split("\n")
    comments = [(n, match) for n, line in enumerate(lines) if (match := _COMMENT.search(line))]
    scalars = _scalar_spans(text) if comments else []
    for number, match in comments:
        if any(first <= (number, match.start()) < end for first, end in scalars):
            continue  # not a comment
        is_alone = not lines[number][: match.start()].strip()
        target = _next_content(lines, number) if is_alone else number
        start = match.start("codes") + 1
        codes = {
            code[0]: Place(str(path), number + 1, start + code.start(), path.parent)
            for code in re.finditer(r"\w+", match["codes"].upper())
        }
        yield Allowance(str(path), target + 1, codes)


def _next_content(lines: list[str], number: int) -> int:
    below = range(number + 1, len(lines))
    is_content = (n for n in below if (line := lines[n].strip()) and not line.startswith("#"))
    return next(is_content, number)


def _scalar_spans(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end of every scalar, as (line, column) from zero."""
    return [
        (_position(event.start_mark), _position(event.end_mark))
        for event in yaml.parse(text, Loader=LOADER)
        if isinstance(event, yaml.ScalarEvent)
    ]


def _position(mark: Any) -> tuple[int, int]:
    return mark.line, mark.column
