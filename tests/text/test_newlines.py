"""Line ends: read as newlines or kept, across every border, and counted."""

import json
import random
from pathlib import Path

import pytest

from continuum.artifacts import CorpusItem
from continuum.text.decoding import BLOCK_BYTES, LineEnds
from continuum.text_records import TextCounts
from tests.text.checked import counted, taken, texts
from tests.text.samples import write_corpus

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
    assert corpus.summary() == f"2 file(s), {corpus.size_bytes:,} bytes"
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
