import json
from pathlib import Path

import pytest

from continuum.errors import ContinuumError, IntegrityError, PreflightError
from continuum.text.decoding import BLOCK_BYTES
from continuum.text.json_lines import MAX_LINE_CHARS
from continuum.text.reading import read_documents
from tests.text.checked import texts
from tests.text.samples import json_lines, messy_text, write_corpus


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "a.txt.gz", "a.md.zst"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_a_whole_file_is_one_document_exactly_as_written(
    tmp_path: Path, name: str, encoding: str
) -> None:
    text = messy_text(20_000)
    assert texts(write_corpus(tmp_path, {name: text}, encoding=encoding)) == [text]


def test_latin_1_bytes_become_their_characters(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": b"caf\xe9\r\n"}, encoding="latin-1")
    assert texts(corpus) == ["café\r\n"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_each_json_line_is_a_document(tmp_path: Path, name: str) -> None:
    expected = [messy_text(3000, seed) for seed in range(30)] + ["", "a\u2028b"]
    lines = json_lines(expected[:-1]) + "\r\n \n" + json.dumps({"text": "a\u2028b"})
    assert texts(write_corpus(tmp_path, {name: lines})) == expected


def test_a_byte_order_mark_is_dropped_at_the_start_only(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": "\ufeffone\ufeff", "b.txt": "\ufefftwo"})
    assert texts(corpus) == ["one\ufeff", "two"]


def test_fragments_stay_small_and_report_every_byte(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": "word " * 500_000, "b.txt.gz": "word " * 500_000})
    counted: list[int] = []
    for document in read_documents(corpus, on_bytes=counted.append):
        assert max(map(len, document.fragments)) <= BLOCK_BYTES
    assert sum(counted) == corpus.size_bytes


def test_documents_know_their_place(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": "x", "b.jsonl": json_lines(["y", "z"])})
    assert [(d.item.file, d.position) for d in read_documents(corpus)] == [
        ("a.txt", 0),
        ("b.jsonl", 0),
        ("b.jsonl", 1),
    ]


@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (b"ab\xff", "byte 2 "),
        (b"\xef\xbb\xbfa\xff", "byte 4 "),
        (b"a" * (BLOCK_BYTES - 1) + b"\xc3(", f"byte {BLOCK_BYTES - 1:,} "),
        (b"abc\xe2\x82", "byte 3 "),
    ],
    ids=["plain", "after a byte order mark", "across blocks", "cut short"],
)
def test_an_undecodable_byte_is_located(tmp_path: Path, content: bytes, offset: str) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": content})
    with pytest.raises(PreflightError, match=f"a.txt.*{offset}is not utf-8"):
        texts(corpus)


@pytest.mark.parametrize(
    ("files", "fields", "message"),
    [
        ({"a.txt.gz": b"plain"}, {}, "cannot be read .compression: gz."),
        ({"a.txt.zst": b"plain"}, {}, "cannot be read .compression: zst."),
        ({"a.txt": b"x"}, {"encoding": "klingon"}, "no text encoding 'klingon'"),
        ({"a.txt": b"x"}, {"encoding": "hex"}, "no text encoding 'hex'"),
        ({"a.txt": "x"}, {"compression": "rar"}, "unknown compression 'rar'"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
def test_what_cannot_be_read_is_explained(
    tmp_path: Path, files: dict[str, str | bytes], fields: dict[str, str], message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        texts(write_corpus(tmp_path, files, **fields))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
def test_a_compressed_file_cut_short_is_no_shorter_text(tmp_path: Path, name: str) -> None:
    whole = write_corpus(tmp_path / "whole", {name: messy_text(50_000)})
    cut = (whole.path / name).read_bytes()[:-20]
    with pytest.raises(PreflightError, match=name):
        texts(write_corpus(tmp_path / "cut", {name: cut}))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
def test_concatenated_compressed_files_are_one_text(tmp_path: Path, name: str) -> None:
    one = write_corpus(tmp_path / "one", {name: "one\n"})
    twice = (one.path / name).read_bytes() * 2
    assert texts(write_corpus(tmp_path / "two", {name: twice})) == ["one\none\n"]


def test_a_line_without_end_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.jsonl.zst": "[" + "1," * (MAX_LINE_CHARS // 2 + 1)})
    with pytest.raises(PreflightError, match="one large JSON array"):
        texts(corpus)


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": "x"})
    (tmp_path / "a.txt").unlink()
    with pytest.raises(IntegrityError, match=r"a\.txt: this file of the corpus cannot be opened"):
        texts(corpus)


def test_every_error_of_reading_is_one_the_user_can_act_on(tmp_path: Path) -> None:
    for number, junk in enumerate((b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd\x00", b"\x00" * 9)):
        for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
            with pytest.raises(ContinuumError):
                texts(write_corpus(tmp_path / f"{number}", {name: junk}))
