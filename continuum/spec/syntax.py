"""What the YAML parser complains about, in words for people who do not know its grammar."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from continuum.spec.diagnostics import Diagnostic, Place, SpecError

_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |\r?$)", re.MULTILINE)
_UNPRINTABLE = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

# libyaml and PyYAML's own parser word the same complaints differently; both are matched.
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
    (
        r"could not find expected ':'",
        "a line that is no `key: value`; a `:` with a space after it is missing{context}",
    ),
    (
        r"did not find expected key|expected <block end>",
        "the indentation fits no level above, or something follows a value that has ended",
    ),
    (r"did not find expected '-' indicator", "a list item is missing its `- `, or its indentation"),
    (
        r"block sequence entries are not allowed",
        "a `- ` where no list can begin; put the list on its own lines",
    ),
    (
        r"found character .*that cannot start any token",
        "plain text cannot begin with {char!r}; put it in quotes",
    ),
    (
        r"found unknown escape character|escape code|hexdecimal|hexadecimal",
        "an unknown `\\` escape; in double quotes write `\\\\`, or use single quotes",
    ),
    (
        r"did not find expected <document start>|expected '<document start>'",
        "this line is outside the document; is its indentation too small?",
    ),
    (r"did not find expected node content|expected the node content", "a value is missing here"),
    (
        r"while scanning (an|a) (alias|anchor)|expected alphabetic or numeric",
        "plain text cannot begin with `*` or `&`; put it in quotes",
    ),
    (
        r"found unexpected ':'",
        "a `:` inside plain text between brackets; put the text in quotes",
    ),
    (r"document indicator", "a `---` or `...` inside a text{context} or a bracket not closed"),
    (
        r"mapping keys are not allowed",
        "plain text cannot begin with `? `; put it in quotes",
    ),
    (r"directive|%", "plain text cannot begin with `%`; put it in quotes"),
    (r"tag|URI", "plain text cannot begin with `!`; put it in quotes"),
    (r"block scalar|indentation indicator|chomping", "after `|` or `>` the text begins below"),
)


def refuse_conflict_markers(text: str, start: Place) -> None:
    """Stop at the markers that an unfinished Git merge leaves.

    Raises:
        SpecError: there is one.
    """
    match = _CONFLICT.search(text)
    if match:
        place = replace(start, line=start.line + text.count("\n", 0, match.start()))
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
        position = error.position if isinstance(error.position, int) else 0
        place = replace(start, line=start.line + text.count("\n", 0, position))
        message = "a character that YAML does not allow (is this a binary file?)"
        return SpecError([Diagnostic("E001", message, place)])
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    lines = text.split("\n")
    number = min(mark.line if mark else 0, len(lines) - 1)
    tab = _tab_near(lines, number)
    if tab is not None:
        message = "a tab in the indentation; YAML wants spaces"
        return SpecError([Diagnostic("E005", message, _at(start, *tab))])
    place = _at(start, number, mark.column) if mark else start
    return SpecError([Diagnostic("E002", *_explain(error, mark, lines, start, place))])


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
            return words.format(context="", char=char), place
        at = _at(start, opened.line, opened.column)
        end = (
            ""
            if opened.line == mark.line or start.is_override
            else f" (noticed on line {place.line})"
        )
        return words.format(context=" here") + end, at
    return f"not YAML: {problem}", place


def _tab_near(lines: list[str], number: int) -> tuple[int, int] | None:
    """A tab before the first letter of the line the parser stopped at, or of the one above."""
    for candidate in (number, number - 1):
        line = lines[candidate] if candidate >= 0 else ""
        before = line[: len(line) - len(line.lstrip())]
        if "\t" in before and (line.strip() or candidate == number):
            return candidate, before.index("\t")
    return None


def _at(start: Place, line: int, column: int) -> Place:
    first = start.column if line == 0 else 1
    return replace(start, line=start.line + line, column=first + column)
