"""JSON lines: the text in each, and what is wrong with those that have none."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from continuum.errors import PreflightError
from continuum.text.decoding import BYTE_ORDER_MARK, TextReader

MAX_LINE_CHARS = 1 << 26
"""A longer line is no document of a JSON-lines file, but another format under that name."""
EXAMPLE = '{"text": "…"}'
SHOWN_KEYS = 8
SHOWN_CHARS = 30
ARRAY_ADVICE = "write one object a line: `jq -c '.[]' in.json > out.jsonl`"
OBJECT_ADVICE = "write one a line: `jq -c . in.json > out.jsonl`"
_END = re.compile("\n")
_ANY_END = re.compile(r"\n|\r\n|\r(?!\Z)")
"""A CR at the end of a text may be the first half of CRLF."""
_JSON_START = re.compile(r'[{\["\d-]|true|false|null|NaN|Infinity')


class LineError(Exception):
    """What is wrong with one line, and what to do."""


class LineReader:
    """The lines of a file, those that are blank left out, and the place of the last one.

    Raises:
        PreflightError: a line is too long to be one.
    """

    def __init__(self, reader: TextReader, *, splits_at_cr: bool, place: str) -> None:
        """
        Args:
            splits_at_cr: Whether a lone CR ends a line too.
            place: The file, for errors.
        """
        self._reader = reader
        self._splits_at_cr = splits_at_cr
        self._place = place
        self._number = 0
        self._first_byte, self._text, self._start = 0, "", 0

    @property
    def where(self) -> str:
        """Where the line that came last begins in the unpacked file, and its number; blank lines
        count."""
        byte = self._first_byte + self._reader.num_bytes(self._text[: self._start])
        return f"byte {byte:,}, line {self._number:,}"

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for fragment in self._reader:
            if self._start or not rest:  # else the text begins where it did
                self._first_byte = self._reader.start_byte - self._reader.num_bytes(rest)
            self._text = rest + fragment if rest else fragment
            yield from self._whole_lines()
            rest = self._text[self._start :]
            if len(rest) > MAX_LINE_CHARS:
                raise PreflightError(
                    f"{self._place}: a line is longer than {MAX_LINE_CHARS:,} characters; in JSON "
                    "lines each line is one document. If it is one large JSON array, "
                    f"{ARRAY_ADVICE}"
                )
        if rest and not rest.isspace():
            self._number += 1
            yield rest.removesuffix("\r") if self._splits_at_cr else rest

    def _whole_lines(self) -> Iterator[str]:
        """The lines of the text that have ended; then `_start` is where the next begins."""
        # Not str.splitlines: JSON may hold U+2028 and its like unescaped.
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


class TextField:
    """Finds the text of a line by its key, or by a path of keys: `message.content`.

    A key that has a dot itself goes before a path; of a list, a number in the path is an index.
    """

    def __init__(
        self, field: str, missing: Literal["error", "skip"], *, forbids_equal_keys: bool
    ) -> None:
        """
        Args:
            forbids_equal_keys: Whether two equal keys in an object are an error; to look for them
                takes time, and a file is looked at once, when it becomes part of a corpus.
        """
        self._field = field
        self._skips = missing == "skip"
        hook = _object if forbids_equal_keys else None
        self._decode = json.JSONDecoder(object_pairs_hook=hook).decode

    def text_of(self, line: str) -> str | None:
        """The text; None where it is missing and may be.

        Raises:
            LineError: there is no text in it.
        """
        value = self._parse(line)
        if not isinstance(value, dict):
            raise LineError(_no_object(value))
        text = value.get(self._field)
        if type(text) is not str:
            try:
                text = _look_up(value, self._field.split("."))
            except _BlockedError as error:
                raise LineError(
                    f"{self._field!r} leads through {error}, which has no keys"
                ) from None
            except KeyError:
                if self._skips:
                    return None
                raise LineError(_no_key(value, self._field)) from None
        if text is None and self._skips:
            return None
        if text is None:
            raise LineError(
                f"{self._field!r} is null; correct it, or leave such lines out with `missing: skip`"
            )
        if type(text) is not str:
            raise LineError(f"{self._field!r} is {type(text).__name__}, not a string")
        if not text.isascii():
            _check_characters(text)
        return text

    def _parse(self, line: str) -> Any:
        try:
            return self._decode(line)
        except RecursionError:
            raise LineError("not readable JSON (nested too deeply)") from None
        except json.JSONDecodeError as error:
            raise LineError(_no_json(line, error)) from None
        except ValueError as error:
            raise LineError(f"not readable JSON ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        (twice, *_) = (key for key in found if keys.count(key) > 1)
        raise LineError(
            f"the key {twice!r} stands twice in one object, so it is not clear which value is "
            "meant; remove one"
        )
    return found


class _BlockedError(Exception):
    """A path leads through a value that has no keys."""


def _look_up(value: Any, path: list[str]) -> Any:
    """What a path leads to, or where it ends early because that is null or missing.

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
        return f"not a JSON object but an array; if the file is one JSON array, {ARRAY_ADVICE}"
    shown = json.dumps(value, ensure_ascii=False)[:SHOWN_CHARS]
    return f"not a JSON object but {shown}; the text is looked up by its key, as in {EXAMPLE}"


def _no_key(value: dict[str, Any], field: str) -> str:
    keys = ", ".join(repr(key) for key in list(value)[:SHOWN_KEYS]) or "no keys"
    keys += ", …" if len(value) > SHOWN_KEYS else ""
    return (
        f"no key {field!r}, it has {keys}; name the right one as text_field, or leave such lines "
        "out with `missing: skip`"
    )


def _no_json(line: str, error: json.JSONDecodeError) -> str:
    start = line.lstrip()
    if start.startswith(BYTE_ORDER_MARK):
        return (
            "a byte order mark that does not begin the file, as where files were joined; remove "
            r"it: `sed 's/^\xEF\xBB\xBF//' in.jsonl > out.jsonl`"
        )
    if re.match(r"\{\s*'", start):
        return "a Python dict, not JSON; write it with json.dumps"
    is_table = error.msg == "Extra data" and line[error.pos] in ",;\t"
    if is_table or _JSON_START.match(start) is None:
        is_table = is_table or re.search("[,;\t]", start) is not None
        advice = "a table (CSV, TSV) is to be converted first" if is_table else "name a text .txt"
        return f"not readable JSON: it begins with {start[:SHOWN_CHARS]!r}; {advice}"
    if error.msg == "Extra data":
        return f"not readable JSON: more than one value on the line; {OBJECT_ADVICE}"
    if error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"not readable JSON: the line ends within a value ({error.msg})"
    return f"not readable JSON ({error.msg} at character {error.pos + 1:,})"


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LineError(
            "half of a surrogate pair, which is no character; correct that line"
        ) from None
