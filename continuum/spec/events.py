"""The parser's events, at the lines and columns that editors count.

libyaml also ends a line at U+0085, U+2028 and U+2029, which hardly any text holds. Editors end it
at a newline alone, and so does whatever shows a line here.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

OTHER_BREAKS = "\x85\u2028\u2029"
"""What ends a line for libyaml alone."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_events(text: str) -> Iterator[Any]:
    """The events of a YAML text, one by one.

    Raises:
        yaml.YAMLError: when the parser meets what is no YAML.
    """
    events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
    has_others = not text.isascii() and any(letter in text for letter in OTHER_BREAKS)
    return _recounted(events, text) if has_others else events


def _recounted(events: Iterator[Any], text: str) -> Iterator[Any]:
    newlines = [found.start() for found in re.finditer("\n", text)]
    try:
        for event in events:
            event.start_mark = _recount(event.start_mark, newlines)
            event.end_mark = _recount(event.end_mark, newlines)
            yield event
    except yaml.MarkedYAMLError as error:
        error.context_mark = _recount(error.context_mark, newlines)
        error.problem_mark = _recount(error.problem_mark, newlines)
        raise


def _recount(mark: Any, newlines: Sequence[int]) -> Any:
    """The mark with the line and the column that its offset has where newlines end lines."""
    if mark is None:
        return None
    line = bisect_left(newlines, mark.index)
    column = mark.index - (newlines[line - 1] + 1 if line else 0)
    return yaml.Mark(mark.name, mark.index, line, column, mark.buffer, mark.pointer)
