"""Files as text: decoded, unpacked, divided into documents, line ends as asked, or explained."""

import json
import random
from pathlib import Path

import pytest

from continuum.errors import ContinuumError, IntegrityError, PreflightError
from continuum.runs.artifacts import CorpusItem
from continuum.runs.text_records import TextCounts
from continuum.text.decoding import BLOCK_BYTES, LineEnds
from continuum.text.json_lines import MAX_LINE_CHARS
from continuum.text.reading import read_documents
from tests.text.samples import counted, json_lines, messy_text, taken, texts, write_corpus


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
    with pytest.raises(PreflightError, match=f"a.txt.*{offset}is not valid utf-8"):
        texts(corpus)


@pytest.mark.parametrize(
    ("files", "fields", "message"),
    [
        ({"a.txt.gz": b"plain"}, {}, "cannot read .compression: gz."),
        ({"a.txt.zst": b"plain"}, {}, "cannot read .compression: zst."),
        ({"a.txt": b"x"}, {"encoding": "klingon"}, "unknown text encoding 'klingon'"),
        ({"a.txt": b"x"}, {"encoding": "hex"}, "unknown text encoding 'hex'"),
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
    with pytest.raises(IntegrityError, match=r"a\.txt: cannot open this file of the corpus"):
        texts(corpus)


def test_every_error_of_reading_is_one_the_user_can_act_on(tmp_path: Path) -> None:
    for number, junk in enumerate((b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd\x00", b"\x00" * 9)):
        for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
            with pytest.raises(ContinuumError):
                texts(write_corpus(tmp_path / f"{number}", {name: junk}))


MIXED = "a\r\nb\rc\n\r\n\r\r\nd\n\re\r"
UNIX = "a\nb\nc\n\n\n\nd\n\ne\n"


def test_line_ends_of_other_systems_are_read_as_newlines(tmp_path: Path) -> None:
    corpus = taken(tmp_path, "a.txt", MIXED.encode())
    assert texts(corpus) == [UNIX]
    assert (tmp_path / "a.txt").read_bytes() == MIXED.encode()
    assert corpus.items[0].newlines == "unix"


def test_line_ends_can_be_kept(tmp_path: Path) -> None:
    corpus = taken(tmp_path, "a.txt", MIXED.encode(), newlines="keep")
    assert texts(corpus) == [MIXED]


@pytest.mark.parametrize("newlines", ["unix", "keep"])
def test_they_are_counted_either_way(tmp_path: Path, newlines: str) -> None:
    counts = counted(tmp_path, "a.txt", MIXED.encode(), newlines=newlines)
    assert (counts.num_crlf, counts.num_cr) == (3, 4)
    assert counts.num_chars == len(UNIX if newlines == "unix" else MIXED)


def test_a_record_of_an_earlier_release_is_read_as_it_was(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.txt": MIXED, "b.jsonl": json.dumps({"text": MIXED})})
    assert texts(corpus) == [MIXED, MIXED]
    assert corpus.counts is None
    assert corpus.summary() == f"2 files, {corpus.size_bytes:,} bytes"
    item = corpus.items[0].model_dump(exclude={"newlines", "missing", "counts"})
    assert CorpusItem.model_validate(item).newlines == "keep"


@pytest.mark.parametrize("before", range(-2, 2))
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_the_border_of_a_block_divides_no_line_end(tmp_path: Path, before: int, name: str) -> None:
    text = "x" * (BLOCK_BYTES + before) + "\r\ny\r\rz\r\n" + "x" * BLOCK_BYTES + "\r"
    corpus = write_corpus(tmp_path, {name: text}, newlines="unix")
    assert texts(corpus) == [text.replace("\r\n", "\n").replace("\r", "\n")]


def test_however_a_text_is_cut_it_is_the_same(tmp_path: Path) -> None:
    draw = random.Random(3)
    for _ in range(500):
        text = "".join(draw.choices("\r\na", k=draw.randrange(30)))
        cuts = sorted(draw.choices(range(len(text) + 1), k=draw.randrange(8)))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        unix, keep = LineEnds("unix"), LineEnds("keep")
        assert "".join(unix.read(parts)) == text.replace("\r\n", "\n").replace("\r", "\n")
        assert "".join(keep.read(parts)) == text
        assert all(LineEnds("unix").read(parts))
        assert unix.num_crlf == keep.num_crlf == text.count("\r\n")
        assert unix.num_cr == keep.num_cr == text.count("\r") - text.count("\r\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030", "cp1252"])
def test_an_encoding_changes_nothing_about_it(tmp_path: Path, encoding: str) -> None:
    corpus = taken(tmp_path, "a.txt", "é\r\ne\r".encode(encoding), encoding=encoding)
    assert texts(corpus) == ["é\ne\n"]


def test_strings_of_json_lines_are_read_so_too(tmp_path: Path) -> None:
    data = json.dumps({"text": MIXED}) + "\r\n" + json.dumps({"text": "a\r"}) + "\r\n"
    corpus = taken(tmp_path, "a.jsonl", data.encode())
    assert texts(corpus) == [UNIX, "a\n"]
    counts = corpus.counts
    assert counts is not None
    assert (counts.num_crlf, counts.num_cr) == (3, 5), "those of the texts, not of the file"
    assert texts(taken(tmp_path, "b.jsonl", data.encode(), newlines="keep")) == [MIXED, "a\r"]


def test_lines_may_end_in_a_lone_cr(tmp_path: Path) -> None:
    data = b'{"text": "a"}\r{"text": "b"}\r\r{"text": "c"}'
    assert texts(taken(tmp_path, "a.jsonl", data)) == ["a", "b", "c"]


def test_everything_of_a_whole_file_is_counted(tmp_path: Path) -> None:
    counts = counted(tmp_path, "a.txt", "Größe\r\n".encode())
    assert counts == TextCounts(num_documents=1, num_chars=6, size_bytes=8, num_crlf=1)
    empty = counted(tmp_path, "b.txt", b"\xef\xbb\xbf")
    assert empty == TextCounts(num_documents=1, num_empty=1)
