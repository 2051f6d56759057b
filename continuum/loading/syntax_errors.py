"""Errors of the YAML parser, with the line that causes them and a message without grammar terms."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from continuum.loading.diagnostics import Diagnostic, Place, SpecError

_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |\r?$)", re.MULTILINE)
_KEY = re.compile(
    r"""(- +)*("[^"]*"|'[^']*'|[^\s"'#{\[&*!|>%@`:]([^:#]|:(?=[^ \t])|(?<=\S)#)*?)\s*:([ \t]|$)"""
)
"""A key at the start of a line, after dashes or not."""
BLANKS = " \t\r"
"""White space within a line of YAML."""
MAX_KEY = 200
"""Characters at the start of a line that are searched for a key."""
_FLOW_TEXT = re.compile(r"(?!\s)(?:\$\{[^\s{}]*\}?|[^\[\]{},:]|:(?=\S))+")
"""Plain text between brackets, if `${name}` were allowed in it."""
_BRACES = str.maketrans("{}", "\ue0fe\ue0ff")
_UNMASK = str.maketrans("\ue0fe\ue0ff", "{}")
"""Private-use characters stand in for the braces of a variable while the text is parsed."""
_FORBIDDEN = yaml.reader.Reader.NON_PRINTABLE
_UNPRINTABLE = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_NO_KEY = "expected `key: value`; add a `:` followed by an ordinary space"
_INDENTATION = "indentation does not match any outer level, or text follows a complete value"
_IN_BLOCK = re.compile(
    "mapping values are not allowed|did not find expected key|expected <block end>"
    "|did not find expected '-' indicator"
)
"""Errors between lines of a block; the line above may be the wrong one."""
# libyaml and PyYAML's own parser word the same errors differently; both are matched.
_HINTS: Sequence[tuple[str, str]] = (
    (r"found unexpected (end of stream|document indicator)", "unclosed quote"),
    (r"expected.* ',' or '[\]}]'", "unclosed bracket, or missing comma"),
    (r"could not find expected ':'", _NO_KEY),
    (r"exceeded maximum nesting depth", "brackets are nested too deeply; unclosed brackets?"),
    (
        r"mapping values are not allowed",
        "unexpected `:`; check the indentation, or quote text that contains `: `",
    ),
    (r"did not find expected (key|'-')|expected <block end>", _INDENTATION),
    (
        r"cannot start any token|scanning an? (alias|anchor)|alphabetic or numeric|mapping keys are"
        r"|directive|%|tag|URI",
        "plain text cannot start with {char}; quote it",
    ),
)
_OPENED = 3
"""The first of them are about something that begins earlier: its beginning is the place."""


def refuse_conflict_markers(text: str, start: Place) -> None:
    """Raise an error if an unfinished Git merge left its markers in the text.

    Raises:
        SpecError: there is one.
    """
    match = _CONFLICT.search(text)
    if match:
        place = _place_of(text, match.start(), start)
        message = "Git conflict marker; resolve the merge conflict"
        raise SpecError([Diagnostic("E004", message, place)])


def unprintable_in(text: str) -> str | None:
    """Return the first control character of a value, escaped; None if there is none.

    They mean nothing in a name, a path or a sentence, and some (NUL) break programs.
    """
    match = _UNPRINTABLE.search(text)
    return ascii(match[0]) if match else None


def syntax_error(error: yaml.YAMLError, text: str, start: Place) -> Diagnostic:
    """Return the parser's error as a diagnostic at the line that causes it."""
    if isinstance(error, yaml.reader.ReaderError):
        found = _FORBIDDEN.search(text)  # the error's own position counts bytes
        place = _place_of(text, found.start() if found else 0, start)
        shown = f" {found[0]!a}" if found else ""
        message = f"character{shown} is not allowed in YAML; is this a binary file?"
        return Diagnostic("E001", message, place)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    lines = text.split("\n")
    number = min(mark.line if mark else 0, len(lines) - 1)
    column = mark.column if mark else 0
    if (space := _wrong_space_near(lines, number)) is not None:
        row, column, name = space
        message = f"{name} in the indentation; use spaces"
        return Diagnostic("E005", message, _at(start, row, column))
    if mark and (unquoted := _unquoted_variable(lines[number], column)):
        begin, said = unquoted
        message = f"{said} must be quoted: between brackets, its {{ opens a mapping"
        place = _at(start, number, begin)
        return Diagnostic("E002", message, place, suggestion=f'write "{said}"')
    problem = str(getattr(error, "problem", None) or error)
    is_in_block = bool(mark and _IN_BLOCK.search(problem))
    if is_in_block and (odd := _odd_line(lines, number)) is not None:
        row, message = odd
        return _diagnostic(message, start, (row, _indent(lines[row])), number)
    hint, opened = _hint(problem, error, lines[number][column : column + 1])
    at = (opened.line, opened.column) if opened else (number, column)
    return _diagnostic(hint, start, at, number)


def _hint(problem: str, error: yaml.YAMLError, char: str) -> tuple[str, Any]:
    """The message, and the mark where the unclosed part begins, if it is about one."""
    full = f"{problem} {getattr(error, 'context', None) or ''}"
    shown = repr(char) if char.strip() else "a special character"
    for number, (pattern, words) in enumerate(_HINTS):
        if re.search(pattern, full):
            opened = getattr(error, "context_mark", None) if number < _OPENED else None
            return words.format(char=shown), opened
    return f"invalid YAML: {problem}; quote text with special characters", None


def _diagnostic(message: str, start: Place, at: tuple[int, int], number: int) -> Diagnostic:
    """An error at a row and column, which the parser noticed at the line `number`."""
    is_later = at[0] != number and not start.is_override
    end = f" (detected on line {start.line + number})" if is_later else ""
    return Diagnostic("E002", message + end, _at(start, *at))


def _unquoted_variable(line: str, column: int) -> tuple[int, str] | None:
    """Begin and text of the word that holds the `${` at whose brace the parser stopped.

    Between brackets, `$` is text and the `{` after it opens a mapping.
    """
    if line[max(0, column - 1) : column + 1] != "${":
        return None
    found = next((found for found in _FLOW_TEXT.finditer(line) if found.end() > column), None)
    return (found.start(), found[0].rstrip()) if found else None


def mask_variable(error: yaml.YAMLError, text: str) -> str | None:
    """Return the text with the braces masked of the variable where the parser stopped, or None.

    The length does not change, so the places of everything that follows are right.
    """
    mark, lines = getattr(error, "problem_mark", None), text.split("\n")
    if mark is None or mark.line >= len(lines):
        return None
    found = _unquoted_variable(lines[mark.line], mark.column)
    if found is None:
        return None
    (begin, said), line = found, lines[mark.line]
    lines[mark.line] = line[:begin] + said.translate(_BRACES) + line[begin + len(said) :]
    return "\n".join(lines)


def unmask(value: str) -> str:
    """Return a value of a masked text as it is written."""
    return value if value.isascii() else value.translate(_UNMASK)


def begins_with_key(line: str) -> bool:
    """Return True if a line of YAML has the form `key: …` or `- key: …`."""
    return _KEY.match(line.strip(BLANKS)[:MAX_KEY]) is not None


def _odd_line(lines: list[str], number: int) -> tuple[int, str] | None:
    """The line above the one where the parser stopped, if that one is wrong, and the message.

    Text that is not `key: value` continues on the next lines, so the parser stops at the first key
    below it. A line that is indented too little ends the mapping of its neighbours.
    """
    above = _written_above(lines, number)
    if above is None:
        return None
    line, indent = lines[above].strip(BLANKS), _indent(lines[above])
    if re.match(r"-[^\s-]", line) and _indent(lines[number]) >= indent:
        return above, "missing space after `-`"
    is_item = line.startswith("- ")
    if not (begins_with_key(line) or is_item or line[-1] in "{}[],\"'"):
        return above, _NO_KEY
    before = _written_above(lines, above)
    if before is not None and indent < _indent(lines[number]) == _indent(lines[before]):
        ends_with_value = begins_with_key(line) and not line.endswith(":")
        if ends_with_value:
            return above, "line is indented less than the lines around it"
    return None


def _written_above(lines: list[str], number: int) -> int | None:
    """The nearest line above that is neither empty nor a comment."""
    return next(
        (
            row
            for row in range(number - 1, -1, -1)
            if lines[row].strip() and not lines[row].lstrip().startswith("#")
        ),
        None,
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _wrong_space_near(lines: list[str], number: int) -> tuple[int, int, str] | None:
    """Row, column (from zero) and name of a tab or the like in the indentation.

    Searched are the line where the parser stopped and the one above.
    """
    for candidate in (number, number - 1):
        line = lines[candidate] if candidate >= 0 else ""
        before = line[: _indent(line)]
        if before.strip(" \r") and (line.strip() or candidate == number):
            column = len(before) - len(before.lstrip(" "))
            return candidate, column, name_of_character(before[column])
    return None


def invisible_in(key: str) -> str:
    """Return a name for the first invisible character of a key."""
    return name_of_character(next(char for char in key if not char.isprintable()))


def tag_message(tag: str) -> str:
    """Return the error message for a tag."""
    tag = tag.replace("tag:yaml.org,2002:", "!!")
    return f"tag {tag} is not allowed; quote text that starts with `!`"


def name_of_character(char: str) -> str:
    """Return a name for a character that cannot be seen."""
    if char == "\t":
        return "tab"
    return f"character U+{ord(char):04X} ({unicodedata.name(char, 'unnamed').lower()})"


def _place_of(text: str, offset: int, start: Place) -> Place:
    before = text[:offset]
    return _at(start, before.count("\n"), offset - (before.rfind("\n") + 1))


def _at(start: Place, line: int, column: int) -> Place:
    first = start.column if line == 0 else 1
    return replace(start, line=start.line + line, column=first + column)
