"""The lines of a JSON-lines file that cannot be used, gathered into one error."""

import json

from continuum.errors import PreflightError
from continuum.text.json_lines import ARRAY_ADVICE, OBJECT_ADVICE, LineError, LineReader

MAX_SHOWN = 10
MAX_KEPT_CHARS = 1 << 22
MAX_KEPT_LINES = 50_000
"""From the first bad line on, to see whether one value goes over several of them."""


class BadLines:
    """Gathers what is wrong with lines; says what the file is where it is no JSON lines at all."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._shown: list[str] = []
        self._num_bad = 0
        self._num_good = 0
        self._num_good_before = 0
        self._first = ""
        self._kept: list[str] = []
        self._kept_chars = 0

    def good(self, line: str) -> None:
        """A line that can be used."""
        self._num_good += 1
        if self._num_bad:
            self._keep(line)

    def bad(self, line: str, error: LineError, lines: LineReader) -> None:
        """A line that cannot be used, the one that `lines` gave last."""
        where = f"byte {lines.byte:,}, line {lines.number:,}"
        if not self._num_bad:
            self._first = where
            self._num_good_before = self._num_good
        self._num_bad += 1
        if len(self._shown) < MAX_SHOWN:
            self._shown.append(f"{where}: {error}")
        self._keep(line)

    def raise_if_any(self) -> None:
        """
        Raises:
            PreflightError: lines were bad.
        """
        if not self._num_bad:
            return
        self._raise_if_one_value()
        if self._num_bad == 1:
            raise PreflightError(f"{self._place} {self._shown[0]}")
        more = self._num_bad - len(self._shown)
        listed = "".join(f"\n  {shown}" for shown in self._shown)
        listed += f"\n  and {more:,} more" if more else ""
        total = self._num_bad + self._num_good
        raise PreflightError(
            f"{self._place}: {self._num_bad:,} of {total:,} lines cannot be used:{listed}"
        )

    def _keep(self, line: str) -> None:
        is_full = self._kept_chars > MAX_KEPT_CHARS or len(self._kept) >= MAX_KEPT_LINES
        if is_full:
            return
        self._kept.append(line)
        self._kept_chars += len(line) + 1
        if self._kept_chars > MAX_KEPT_CHARS or len(self._kept) == MAX_KEPT_LINES:
            self._raise_if_one_value()  # rather than to read the rest of a file that is no lines

    def _raise_if_one_value(self) -> None:
        """If the first bad line begins a value that goes on in the next, that explains the rest."""
        if fault := _value_over_lines(self._kept, is_first=not self._num_good_before):
            raise PreflightError(f"{self._place} {self._first}: {fault}")


def _value_over_lines(lines: list[str], *, is_first: bool) -> str | None:
    """What a file is whose lines are parts of one JSON value; None if they are not."""
    text = "\n".join(lines).lstrip()
    if len(lines) < 2 or text[:1] not in ("{", "[") or _num_lines_of_value(lines[0], strict=True):
        return None
    is_array = text.startswith("[")
    if is_array and is_first:
        return f"a JSON array over several lines, not JSON lines; {ARRAY_ADVICE}"
    advice = ARRAY_ADVICE if is_array else OBJECT_ADVICE
    if num_lines := _num_lines_of_value(text, strict=True):
        return (
            f"pretty-printed JSON, not JSON lines: one value goes over {num_lines:,} lines; "
            f"{advice}"
        )
    if num_lines := _num_lines_of_value(text, strict=False):
        return "a line end inside a JSON string, where it is to be written \\n; correct that line"
    return None


def _num_lines_of_value(text: str, *, strict: bool) -> int:
    """How many lines the JSON value goes over that a text begins with; 0 if it has none."""
    try:
        _, end = json.JSONDecoder(strict=strict).raw_decode(text)
    except (ValueError, RecursionError):
        return 0
    return text.count("\n", 0, end) + 1
