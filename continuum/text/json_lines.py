"""Reads JSON Lines: the text of each line, and the errors of invalid lines."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from continuum.errors import PreflightError
from continuum.text.decoding import BYTE_ORDER_MARK, TextReader

MAX_LINE_CHARS = 1 << 26
"""A longer line means that the file is not JSON Lines."""
TOKEN_IDS = frozenset({"input_ids", "labels", "token_ids", "tokens"})
EXAMPLE = '{"text": "…"}'
SHOWN_KEYS = 8
SHOWN_CHARS = 30
MAX_SHOWN = 10
MAX_KEPT_CHARS = 1 << 22
MAX_KEPT_LINES = 50_000
"""Kept from the first invalid line on, to detect a value that spans several lines."""
ARRAY_ADVICE = "write one object per line: `jq -c '.[]' in.json > out.jsonl`"
OBJECT_ADVICE = "write one per line: `jq -c . in.json > out.jsonl`"
_END = re.compile("\n")
_ANY_END = re.compile(r"\n|\r\n|\r(?!\Z)")
"""A CR at the end of a fragment may be half of CRLF."""
_JSON_START = re.compile(r'[{\["\d-]|true|false|null|NaN|Infinity')


class LineError(Exception):
    """The error of one line, and what to do."""


class LineReader:
    """Reads the lines of a file, without blank ones, and knows the place of the last one.

    Raises:
        PreflightError: a line is too long.
    """

    def __init__(self, reader: TextReader, *, splits_at_cr: bool, place: str) -> None:
        """
        Args:
            splits_at_cr: Whether a lone CR also ends a line.
            place: The file's name in errors.
        """
        self._reader = reader
        self._splits_at_cr = splits_at_cr
        self._place = place
        self._number = 0
        self._first_byte, self._text, self._start = 0, "", 0

    @property
    def where(self) -> str:
        """Byte offset of the last line in the decompressed file, and its number, counting blank
        lines."""
        byte = self._first_byte + self._reader.num_bytes(self._text[: self._start])
        return f"byte {byte:,}, line {self._number:,}"

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for fragment in self._reader:
            if self._start or not rest:  # else the text starts where it did
                self._first_byte = self._reader.start_byte - self._reader.num_bytes(rest)
            self._text = rest + fragment if rest else fragment
            yield from self._whole_lines()
            rest = self._text[self._start :]
            if len(rest) > MAX_LINE_CHARS:
                raise PreflightError(
                    f"{self._place}: line is longer than {MAX_LINE_CHARS:,} characters; in JSON "
                    "Lines each line is one document. If the file is one large JSON array, "
                    f"{ARRAY_ADVICE}"
                )
        if rest and not rest.isspace():
            self._number += 1
            yield rest.removesuffix("\r") if self._splits_at_cr else rest

    def _whole_lines(self) -> Iterator[str]:
        """The complete lines of the text; afterwards `_start` is the start of the next."""
        # Not str.splitlines: JSON may contain U+2028 and the like unescaped.
        text = self._text
        ends = _ANY_END if self._splits_at_cr and "\r" in text else _END
        next_start = self._start = 0
        for end in ends.finditer(text):
            line = text[next_start : end.start()]
            self._start, next_start = next_start, end.end()
            self._number += 1
            if line and not line.isspace():
                yield line
        self._start = next_start


class LineErrors:
    """Collects the errors of lines, and recognizes files that are not JSON Lines at all."""

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
        """Count a valid line."""
        self._num_good += 1
        if self._num_bad:
            self._keep(line)

    def bad(self, line: str, where: str, error: LineError) -> None:
        """Record an invalid line."""
        if not self._num_bad:
            self._first = where
            self._num_good_before = self._num_good
        self._num_bad += 1
        if len(self._shown) < MAX_SHOWN:
            self._shown.append(f"{where}: {error}")
        self._keep(line)

    def raise_if_bad(self) -> None:
        """
        Raises:
            PreflightError: there were invalid lines.
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
            f"{self._place}: {self._num_bad:,} of {total:,} lines are invalid:{listed}"
        )

    def _keep(self, line: str) -> None:
        if self._kept_chars > MAX_KEPT_CHARS or len(self._kept) >= MAX_KEPT_LINES:
            return
        self._kept.append(line)
        self._kept_chars += len(line) + 1
        if self._kept_chars > MAX_KEPT_CHARS or len(self._kept) == MAX_KEPT_LINES:
            self._raise_if_one_value()  # rather than reading the rest of the file

    def _raise_if_one_value(self) -> None:
        """Raise if the first invalid line starts a multi-line value, which explains the others."""
        if fault := _value_over_lines(self._kept, is_first=not self._num_good_before):
            raise PreflightError(f"{self._place} {self._first}: {fault}")


class TextField:
    """Looks up the text of a line by a key or a path of keys: `message.content`.

    A key that contains a dot takes precedence over a path; a number in a path is a list index.
    """

    def __init__(
        self, field: str, missing: Literal["error", "skip"], *, forbids_equal_keys: bool
    ) -> None:
        """
        Args:
            forbids_equal_keys: Whether duplicate keys in an object are an error; detecting them
                is slow, and a file is checked once, when it becomes part of a corpus.
        """
        self._field = field
        self._skips = missing == "skip"
        hook = _object if forbids_equal_keys else None
        self._decode = json.JSONDecoder(object_pairs_hook=hook).decode

    def text_of(self, line: str) -> str | None:
        """The text; None if it is missing and `missing: skip` is set.

        Raises:
            LineError: the line is invalid.
        """
        value = self._parse(line)
        if not isinstance(value, dict):
            raise LineError(_no_object(value))
        text = value.get(self._field)
        if type(text) is not str:
            try:
                text = _look_up(value, self._field.split("."))
            except _BlockedError as error:
                raise LineError(f"cannot look up {self._field!r}: {error} has no keys") from None
            except KeyError:
                if self._skips:
                    return None
                raise LineError(_no_key(value, self._field)) from None
        if text is None and self._skips:
            return None
        if text is None:
            raise LineError(
                f"{self._field!r} is null; correct it, or skip such lines with `missing: skip`"
            )
        if type(text) is not str:
            raise LineError(f"{self._field!r} must be a string, not {type(text).__name__}")
        if not text.isascii():
            _check_characters(text)
        return text

    def _parse(self, line: str) -> Any:
        try:
            return self._decode(line)
        except RecursionError:
            raise LineError("invalid JSON (nested too deeply)") from None
        except json.JSONDecodeError as error:
            raise LineError(_no_json(line, error)) from None
        except ValueError as error:
            raise LineError(f"invalid JSON ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        (twice, *_) = (key for key in found if keys.count(key) > 1)
        raise LineError(f"duplicate key {twice!r} in one object; remove one")
    return found


class _BlockedError(Exception):
    """A value on the path has no keys; the message names its type."""


def _look_up(value: Any, path: list[str]) -> Any:
    """The value at a path; None if a value on the path is null.

    Raises:
        KeyError: a key on the path is missing.
    """
    if not path or value is None:
        return value
    if isinstance(value, dict):
        for length in range(len(path), 0, -1):
            key = ".".join(path[:length])
            if key in value:
                return _look_up(value[key], path[length:])
        raise KeyError(path[0])
    if isinstance(value, list) and path[0].isdecimal():
        index = int(path[0])
        if index >= len(value):
            raise KeyError(path[0])
        return _look_up(value[index], path[1:])
    raise _BlockedError(type(value).__name__)


def _no_object(value: Any) -> str:
    if isinstance(value, list):
        return (
            f"expected a JSON object, found an array; if the file is one JSON array, {ARRAY_ADVICE}"
        )
    shown = json.dumps(value, ensure_ascii=False)[:SHOWN_CHARS]
    return f"expected a JSON object such as {EXAMPLE}, found {shown}"


def _no_key(value: dict[str, Any], field: str) -> str:
    keys = ", ".join(repr(key) for key in list(value)[:SHOWN_KEYS]) or "no keys"
    keys += ", …" if len(value) > SHOWN_KEYS else ""
    missing = f"key {field!r} not found (found: {keys})"
    if TOKEN_IDS & value.keys() and not _has_text(value):
        return f"{missing}; token ids are not read as texts: write lines such as {EXAMPLE}"
    return f"{missing}; set text_field to the right one, or skip such lines with `missing: skip`"


def _has_text(value: Any) -> bool:
    """Whether a text is somewhere in a line, where `text_field` can lead."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, str) or any(map(_has_text, items))


def _no_json(line: str, error: json.JSONDecodeError) -> str:
    start = line.lstrip()
    if start.startswith(BYTE_ORDER_MARK):
        return (
            "a byte order mark inside the file, probably from concatenated files; remove "
            r"it: `sed 's/^\xEF\xBB\xBF//' in.jsonl > out.jsonl`"
        )
    if re.match(r"\{\s*'", start):
        return "a Python dict, not JSON; write it with json.dumps"
    is_table = error.msg == "Extra data" and line[error.pos] in ",;\t"
    if is_table or _JSON_START.match(start) is None:
        is_table = is_table or re.search("[,;\t]", start) is not None
        advice = "convert a table (CSV, TSV) first" if is_table else "name plain text .txt"
        return f"invalid JSON: it starts with {start[:SHOWN_CHARS]!r}; {advice}"
    if error.msg == "Extra data":
        return f"invalid JSON: more than one value on the line; {OBJECT_ADVICE}"
    if error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"invalid JSON: the line ends inside a value ({error.msg})"
    return f"invalid JSON ({error.msg} at character {error.pos + 1:,})"


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LineError(
            "unpaired surrogate, which is not a valid character; correct the line"
        ) from None


def _value_over_lines(lines: list[str], *, is_first: bool) -> str | None:
    """The error of a file whose lines are parts of one JSON value; else None."""
    text = "\n".join(lines).lstrip()
    if len(lines) < 2 or text[:1] not in ("{", "[") or _num_lines_of_value(lines[0], strict=True):
        return None
    is_array = text.startswith("[")
    if is_array and is_first:
        return f"a JSON array over several lines, not JSON Lines; {ARRAY_ADVICE}"
    advice = ARRAY_ADVICE if is_array else OBJECT_ADVICE
    if num_lines := _num_lines_of_value(text, strict=True):
        return f"pretty-printed JSON, not JSON Lines: one value spans {num_lines:,} lines; {advice}"
    if num_lines := _num_lines_of_value(text, strict=False):
        return "unescaped line end in a JSON string; write it as \\n"
    return None


def _num_lines_of_value(text: str, *, strict: bool) -> int:
    """Number of lines of the JSON value at the start of a text; 0 if there is none."""
    try:
        _, end = json.JSONDecoder(strict=strict).raw_decode(text)
    except (ValueError, RecursionError):
        return 0
    return text.count("\n", 0, end) + 1
