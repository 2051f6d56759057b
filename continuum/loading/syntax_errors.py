"""What the YAML parser complains about, in words for people who do not know its grammar."""

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
"""What begins with a key, behind dashes or not."""
BLANKS = " \t\r"
"""What YAML takes for space in a line."""
MAX_KEY = 200
"""Letters at the beginning of a line that are looked at for a key."""
_FLOW_TEXT = re.compile(r"(?!\s)(?:\$\{[^\s{}]*\}?|[^\[\]{},:]|:(?=\S))+")
"""Plain text between brackets, were `${name}` allowed in it."""
OTHER_BREAKS = "\x85\u2028\u2029"
"""Letters that end a line for libyaml alone; editors end it at a newline."""
_BREAKS = str.maketrans(OTHER_BREAKS, "\ue0fb\ue0fc\ue0fd")
_BRACES = str.maketrans("{}", "\ue0fe\ue0ff")
_UNMASK = str.maketrans("\ue0fb\ue0fc\ue0fd\ue0fe\ue0ff", OTHER_BREAKS + "{}")
"""Letters for private use, which no spec holds, stand in for those while a text is parsed."""
_FORBIDDEN = yaml.reader.Reader.NON_PRINTABLE
_UNPRINTABLE = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_NO_KEY = "a line that is no `key: value`; "
_IN_BLOCK = re.compile(
    "mapping values are not allowed|did not find expected key|expected <block end>"
    "|did not find expected '-' indicator"
)
"""Complaints about lines that do not fit together; the one above may be the wrong one."""

# libyaml and PyYAML's own parser word the same errors differently; both are matched.
_EXPLANATIONS: Sequence[tuple[str, str]] = (
    (r"found unexpected end of stream", "a quote is opened{context} and never closed"),
    (
        r"expected.* ',' or '[\]}]'",
        "a bracket opened{context} is not closed, or a comma is missing",
    ),
    (
        r"mapping values are not allowed",
        "a `:` where no key can be: check the indentation, or put text that holds `: ` in quotes",
    ),
    (r"could not find expected ':'", "{no_key}{context}"),
    (
        r"did not find expected key|expected <block end>",
        "the indentation fits no level above, or something follows a value that has ended",
    ),
    (r"did not find expected '-' indicator", "a list item is missing its `- `, or its indentation"),
    (
        r"found unexpected ':'",
        "a `:` inside plain text between brackets; put the text in quotes",
    ),
    (r"document indicator", "a `---` or `...` inside a text{context} or a bracket not closed"),
    (
        r"cannot start any token|scanning an? (alias|anchor)|alphabetic or numeric|mapping keys are"
        r"|directive|%|tag|URI",
        "plain text cannot begin with {char}; put it in quotes",
    ),
)


def refuse_conflict_markers(text: str, start: Place) -> None:
    """Stop at the markers that an unfinished Git merge leaves.

    Raises:
        SpecError: there is one.
    """
    match = _CONFLICT.search(text)
    if match:
        place = _place_of(text, match.start(), start)
        raise SpecError(
            [Diagnostic("E004", "a Git conflict marker; finish the merge first", place)]
        )


def unprintable_in(text: str) -> str | None:
    """The first control character of a value, as Python writes it; None when it has none.

    None of them means anything in a name, a path or a sentence, and some (NUL) break programs.
    """
    match = _UNPRINTABLE.search(text)
    return ascii(match[0]) if match else None


def syntax_error(error: yaml.YAMLError, text: str, start: Place) -> SpecError:
    """The parser's complaint with its place."""
    if isinstance(error, yaml.reader.ReaderError):
        found = _FORBIDDEN.search(text)  # the error's own position counts bytes
        place = _place_of(text, found.start() if found else 0, start)
        shown = f" ({found[0]!a})" if found else ""
        message = f"a character{shown} that YAML does not allow; is this a binary file?"
        return SpecError([Diagnostic("E001", message, place)])
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    lines = text.split("\n")
    number = min(mark.line if mark else 0, len(lines) - 1)
    wrong_space = _wrong_space_near(lines, number)
    if wrong_space is not None:
        row, column, name = wrong_space
        message = f"{name} in the indentation; YAML wants spaces"
        return SpecError([Diagnostic("E005", message, _at(start, row, column))])
    if mark and (unquoted := _unquoted_variable(lines[number], mark.column)):
        column, text = unquoted
        message = f"{text} must be in quotes: between brackets its {{ opens a mapping"
        place = _at(start, number, column)
        return SpecError([Diagnostic("E002", message, place, suggestion=f'write "{text}"')])
    odd = (
        _odd_line(lines, number)
        if mark and _IN_BLOCK.search(str(getattr(error, "problem", "")))
        else None
    )
    if odd is not None:
        row, message = odd
        end = "" if row == number else f" (noticed on line {start.line + number})"
        column = len(lines[row]) - len(lines[row].lstrip())
        return SpecError([Diagnostic("E002", message + end, _at(start, row, column))])
    place = _at(start, number, mark.column) if mark else start
    return SpecError([Diagnostic("E002", *_explain(error, mark, lines, start, place))])


def _unquoted_variable(line: str, column: int) -> tuple[int, str] | None:
    """Where the text begins that holds the `${` at whose brace the parser stopped, and the text.

    Between brackets, `$` is text and the `{` behind it opens a mapping.
    """
    if line[max(0, column - 1) : column + 1] != "${":
        return None
    found = next((found for found in _FLOW_TEXT.finditer(line) if found.end() > column), None)
    return (found.start(), found[0].rstrip()) if found else None


def mask_variable(error: yaml.YAMLError, text: str) -> str | None:
    """The text with other braces around the variable where the parser stopped; None without one.

    The letters stay where they are, so that the places of all that follows are right.
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


def mask_breaks(text: str) -> str:
    """The text for the parser, in which only a newline ends a line."""
    return text if text.isascii() else text.translate(_BREAKS)


def unmask(value: str) -> str:
    """A value of a masked text as it is written."""
    return value if value.isascii() else value.translate(_UNMASK)


def begins_with_key(line: str) -> bool:
    """Whether a line of YAML has the form `key: …` or `- key: …`."""
    return _KEY.match(line.strip(BLANKS)[:MAX_KEY]) is not None


def _odd_line(lines: list[str], number: int) -> tuple[int, str] | None:
    """The line above the one where the parser stopped, if that is the wrong one, and why.

    Text that is no `key: value` goes on over the next lines, so that the parser stops at the first
    key below it. A line that is indented too little ends the mapping that its neighbours are in.
    """
    above = _written_above(lines, number)
    if above is None:
        return None
    line, indent = lines[above].strip(BLANKS), _indent(lines[above])
    if re.match(r"-[^\s-]", line) and _indent(lines[number]) >= indent:
        return above, "a space is missing after the `-`"
    is_item = line.startswith("- ")
    if not (begins_with_key(line) or is_item or line[-1] in "{}[],\"'"):
        return above, _no_key(lines[above])
    before = _written_above(lines, above)
    if before is not None and indent < _indent(lines[number]) == _indent(lines[before]):
        ends_with_value = begins_with_key(line) and not line.endswith(":")
        if ends_with_value:
            return above, "indented less than the lines around it"
    return None


def _no_key(line: str) -> str:
    """What is said of a line without a key: that its `:` lacks a space, or has another instead."""
    behind = (found[1] for found in re.finditer(r":([^\t\r -~])", line))
    strange = next((char for char in behind if not char.isprintable()), None)
    if strange is None:
        return f"{_NO_KEY}a `:` with a space after it is missing"
    return f"{_NO_KEY}instead of a space, {name_of_character(strange)} follows its `:`"


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


def _explain(
    error: yaml.YAMLError, mark: Any, lines: list[str], start: Place, place: Place
) -> tuple[str, Place]:
    """A sentence and the place a reader should look at: for what is not closed, its beginning."""
    problem = str(getattr(error, "problem", None) or error)
    opened = getattr(error, "context_mark", None)
    char = (
        lines[mark.line][mark.column : mark.column + 1] if mark and mark.line < len(lines) else ""
    )
    if char == "\ufeff":
        return "a byte order mark (U+FEFF) inside the file; delete it", place
    if char == ":" and not lines[mark.line][: mark.column].strip():
        return "the key before this `:` is empty", place
    said = f"{problem} {getattr(error, 'context', None) or ''}"
    for pattern, words in _EXPLANATIONS:
        if not re.search(pattern, said):
            continue
        if "{context}" not in words or opened is None:
            shown = repr(char) if char.strip() else "a special character"
            return words.format(context="", char=shown, no_key=_no_key("")), place
        at = _at(start, opened.line, opened.column)
        end = (
            ""
            if opened.line == mark.line or start.is_override
            else f" (noticed on line {place.line})"
        )
        no_key = _no_key(lines[min(opened.line, len(lines) - 1)])
        return words.format(context=" here", no_key=no_key) + end, at
    return f"not YAML: {problem}; text with special characters belongs in quotes", place


def _wrong_space_near(lines: list[str], number: int) -> tuple[int, int, str] | None:
    """A tab or the like before the first letter of the line the parser stopped at, or above.

    Returns:
        Row and column, from zero, and a name for it.
    """
    for candidate in (number, number - 1):
        line = lines[candidate] if candidate >= 0 else ""
        before = line[: _indent(line)]
        if before.strip(" \r") and (line.strip() or candidate == number):
            column = len(before) - len(before.lstrip(" "))
            return candidate, column, name_of_character(before[column])
    return None


def invisible_in(key: str) -> str:
    """A name for the first character of a key that cannot be seen."""
    return name_of_character(next(char for char in key if not char.isprintable()))


def tag_message(tag: str) -> str:
    """What is said of a tag."""
    tag = tag.replace("tag:yaml.org,2002:", "!!")
    return f"the tag {tag} is not allowed; write plain YAML, and quote text that begins with `!`"


def name_of_character(char: str) -> str:
    """How a message calls a character that cannot be seen."""
    if char == "\t":
        return "a tab"
    return f"a character U+{ord(char):04X} ({unicodedata.name(char, 'unnamed').lower()})"


def _place_of(text: str, offset: int, start: Place) -> Place:
    before = text[:offset]
    return _at(start, before.count("\n"), offset - (before.rfind("\n") + 1))


def _at(start: Place, line: int, column: int) -> Place:
    first = start.column if line == 0 else 1
    return replace(start, line=start.line + line, column=first + column)
