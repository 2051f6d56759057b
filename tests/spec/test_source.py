import re
from pathlib import Path

import pytest

from continuum.loading.diagnostics import Diagnostic, Place, SpecError
from continuum.loading.load import load_experiment
from continuum.loading.scalars import read_scalar
from continuum.loading.yaml import Node, Text, read_file, read_text
from tests.spec.documents import BOOKS, HEAD, write

SCALARS = [
    ("", None),
    ("~", None),
    ("null", None),
    ("NULL", None),
    ("nULL", "nULL"),
    ("true", True),
    ("False", False),
    ("TRUE", True),
    ("tRUE", "tRUE"),
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("0", 0),
    ("-7", -7),
    ("+7", 7),
    ("0o10", 8),
    ("0x1F", 31),
    ("0b11", "0b11"),
    ("1_000", "1_000"),
    ("1.5", 1.5),
    (".5", 0.5),
    ("5.", 5.0),
    ("1e-3", 1e-3),
    ("3e4", 3e4),
    ("1.E+2", 100.0),
    ("-.5e1", -5.0),
    ("1e", "1e"),
    ("e3", "e3"),
    ("1.2.3", "1.2.3"),
    ("2024-01-31", "2024-01-31"),
    ("12:30:45", "12:30:45"),
    ("1,5", "1,5"),
    ("=", "="),
    ("5%", "5%"),
    ("300k", "300k"),
    ("١٢", "١٢"),
    ("1.5\n", "1.5\n"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS, ids=[repr(text) for text, _ in SCALARS])
def test_plain_scalars_are_read_by_yaml_1_2s_core_schema(text: str, value: object) -> None:
    found = read_scalar(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("text", ["010", "-007", "+00", "0128"])
def test_a_number_that_programs_read_differently_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(text)} is octal in YAML 1.1"):
        read_scalar(text)


@pytest.mark.parametrize("text", ["1e999", "-1e999", ".inf", "-.INF", ".nan", "9" * 4001])
def test_a_number_that_no_computer_holds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|too large"):
        read_scalar(text)


def read(text: str) -> Node:
    mild: list[Diagnostic] = []
    node = read_text(text, Place("spec.yaml", 1, 1, Path()), mild)
    assert mild == []
    return node


def test_quoted_scalars_stay_text() -> None:
    plain = read("a: '1'\nb: \"true\"\nc: |\n  1\nd: !!str 1\n").plain()
    assert plain == {"a": "1", "b": "true", "c": "1\n", "d": "1"}


def test_every_node_knows_its_line_and_column() -> None:
    root = read("a: 1\nb:\n  - x\n  - {c: d}\n")
    item = root.child("b").child(1)  # type: ignore[union-attr]  # just written above
    assert item is not None
    inner = item.child("c")
    assert inner is not None
    assert inner.key_place is not None
    assert (inner.key_place.line, inner.key_place.column) == (4, 6)
    assert (inner.place.line, inner.place.column) == (4, 9)
    assert (item.place.line, item.place.column) == (4, 5)


def test_an_empty_value_is_placed_at_its_key() -> None:
    node = read("a: 1\nbc:\n").child("bc")
    assert node is not None
    assert (node.place.line, node.place.column) == (2, 1)


def test_an_alias_repeats_the_value_of_its_anchor() -> None:
    assert read("a: &x [1, 2]\nb: *x\n").plain() == {"a": (1, 2), "b": (1, 2)}


def test_texts_know_the_folder_of_their_file(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "spec.yaml", "a: x\n")
    value = read_file(path, []).plain()["a"]
    assert isinstance(value, Text)
    assert value.said_in == tmp_path / "deep"


def test_duplicate_keys_do_not_hinder_further_checks() -> None:
    mild: list[Diagnostic] = []
    node = read_text("a: 1\na: 2\n", Place("spec.yaml", 1, 1, Path()), mild)
    assert node.plain() == {"a": 2}
    assert [fault.code for fault in mild] == ["E003"]


BYTES = {
    "nothing": (b"", "E008", 1),
    "white space": (b" \n\n", "E008", 1),
    "NUL": (b"continuum: 1\nname: a\0b\n", "E001", 2),
    "control character": (b"continuum: 1\nname: a\x07b\n", "E001", 2),
    "latin-1": ("continuum: 1\nname: toy\ndescription: café\n".encode("latin-1"), "E001", 3),
    "UTF-16": ("continuum: 1\n".encode("utf-16"), "E001", 1),
    "ELF": (b"\x7fELF\x02\x01\x01\0\0\0", "E001", 1),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0", "E001", 1),
    "surrogate": (b"name: \xed\xa0\x80\n", "E001", 1),
    "cut off": (b"continuum: 1\nname: \xe2\x82", "E001", 2),
    "BOM in the middle": (b"continuum: 1\nname: a\n\xef\xbb\xbfseed: 1\n", "E002", 3),
    "only a tab": (b"\t", "E005", 1),
}


@pytest.mark.parametrize(("raw", "code", "line"), BYTES.values(), ids=BYTES.keys())
def test_bytes_that_are_no_spec_are_refused(
    raw: bytes, code: str, line: int, tmp_path: Path
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpecError) as caught:
        load_experiment(path)
    first = caught.value.diagnostics[0]
    assert (first.code, first.place.line) == (code, line)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0", "binary file; give a YAML file in UTF-8"),
        ("continuum: 1\n".encode("utf-16"), "the file is in UTF-16; save it as UTF-8"),
    ],
    ids=["PNG", "UTF-16"],
)
def test_a_binary_file_is_named_as_such_and_not_printed(
    raw: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpecError) as caught:
        load_experiment(path)
    assert str(caught.value) == f"{path}:1:1: error E001: {message}"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_byte_order_marks_make_no_difference(
    newline: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes((HEAD + BOOKS).replace("\n", newline).encode(encoding))
    assert list(load_experiment(path).stages) == ["books"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_are_counted_alike_whatever_ends_them(newline: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes((HEAD + "sead: 1\n" + BOOKS).replace("\n", newline).encode("utf-8-sig"))
    with pytest.raises(SpecError) as caught:
        load_experiment(path)
    assert caught.value.diagnostics[0].place.line == 3


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the file: No such file"):
        load_experiment(tmp_path / "nowhere.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the file: Is a directory"):
        load_experiment(tmp_path)
