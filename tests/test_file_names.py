"""Names of files that are not UTF-8, or would break a line."""

import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.runs.file_names import (
    STREAM_ERRORS,
    encodable,
    encodable_json,
    escape_name,
    on_one_line,
    unescape_name,
)

NAMES = {
    b"caf\xe9.txt": r"caf\xe9.txt",
    "café.txt".encode(): "café.txt",
    rb"caf\xe9.txt": r"caf\\xe9.txt",
    b"a\nb\tc\r.txt": r"a\nb\tc\r.txt",
    b"\x1b[31mred": r"\x1b[31mred",
    "x\u202etxt.exe".encode(): r"x\u202etxt.exe",
    "two\u2028lines\x85".encode(): r"two\u2028lines\u0085",
    rb"C:\files\data.txt": r"C:\files\data.txt",
    rb"C:\new": r"C:\\new",
    rb"a\\b": r"a\\\b",
    b"end\\": "end\\",
    b"two\\\\": "two\\\\\\",
    b"\\\xe9": r"\\\xe9",
    b'it\'s "1" $HOME *?[]': 'it\'s "1" $HOME *?[]',
    "👩\u200d👧 ‌می".encode(): "👩\u200d👧 ‌می",
    b"\xed\xa0\x80": r"\xed\xa0\x80",
}


@pytest.mark.parametrize(("name", "spelling"), NAMES.items(), ids=map(repr, NAMES))
def test_a_name_has_one_readable_escaped_form(name: bytes, spelling: str) -> None:
    assert escape_name(os.fsdecode(name)) == spelling
    assert os.fsencode(unescape_name(spelling)) == name


@given(st.binary(max_size=30) | st.text(r"\xe9n0ud\r").map(str.encode))
def test_every_name_comes_back_and_fits_a_line_of_utf8(name: bytes) -> None:
    spelling = escape_name(os.fsdecode(name))
    assert os.fsencode(unescape_name(spelling)) == name
    assert len(spelling.encode().decode().splitlines()) <= 1


@given(st.lists(st.binary(min_size=1, max_size=6), min_size=2, max_size=2, unique=True))
def test_different_names_are_escaped_differently(names: list[bytes]) -> None:
    one, other = (escape_name(os.fsdecode(name)) for name in names)
    assert one != other


def test_texts_with_such_names_can_be_written() -> None:
    path = os.fsdecode(b"/data/caf\xe9\n.txt")
    assert on_one_line(f"{path}: missing") == r"/data/caf\xe9\n.txt: missing"
    assert encodable(f"{path}: missing") == "/data/caf\\xe9\n.txt: missing"
    text = encodable_json(json.dumps({"path": path}, ensure_ascii=False))
    assert json.loads(text.encode()) == {"path": "/data/caf\\xe9\n.txt"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_shows_the_bytes_of_names(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=STREAM_ERRORS)
    stream.write(os.fsdecode(b"caf\xe9 \xe2\x82\xac"))
    stream.flush()
    euro = "€" if encoding == "utf-8" else r"\u20ac"
    assert raw.getvalue().decode(encoding) == rf"caf\xe9 {euro}"
