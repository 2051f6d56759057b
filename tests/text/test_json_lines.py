"""JSON lines: texts are found, missing ones skipped when asked, and every fault is located."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import PreflightError
from continuum.runs.text_records import TextCounts
from continuum.text.decoding import BLOCK_BYTES
from continuum.text.json_lines import MAX_KEPT_LINES
from tests.text.samples import counted, taken, texts

GOOD = b'{"text": "a good line"}\n'


def refusal(folder: Path, data: bytes, name: str = "a.jsonl", **fields: Any) -> str:
    with pytest.raises(PreflightError) as error:
        taken(folder, name, data, **fields)
    return str(error.value)


@pytest.mark.parametrize("bad", [b'{"text": null}\n', b'{"other": 1}\n', b"{}\n"])
def test_a_missing_text_is_an_error_or_skipped_and_counted(tmp_path: Path, bad: bytes) -> None:
    reported = refusal(tmp_path, GOOD + bad + GOOD)
    assert f"byte {len(GOOD)}, line 2: " in reported
    assert "`missing: skip`" in reported
    corpus = taken(tmp_path, "a.jsonl", GOOD + bad + GOOD, missing="skip")
    assert texts(corpus) == ["a good line"] * 2
    assert corpus.items[0].missing == "skip"
    assert corpus.counts == TextCounts(num_documents=2, num_skipped=1, num_chars=22, size_bytes=22)
    assert "2 documents, 1 skipped, 22 characters" in corpus.summary()


@pytest.mark.parametrize("value", ["3", "true", "[]", '["a"]', "{}", "1.5"])
def test_what_is_no_text_is_never_skipped(tmp_path: Path, value: str) -> None:
    data = b'{"text": %s}\n' % value.encode()
    assert "must be a string" in refusal(tmp_path, GOOD + data, missing="skip")


def test_to_skip_every_line_is_a_wrong_key(tmp_path: Path) -> None:
    reported = refusal(tmp_path, b'{"txt": "a"}\n' * 4, missing="skip")
    assert "all 4 lines were skipped" in reported
    assert "text_field" in reported


def test_empty_texts_are_counted(tmp_path: Path) -> None:
    data = b'{"text": ""}\n{"text": " "}\n\n' + GOOD
    counts = counted(tmp_path, "a.jsonl", data)
    assert (counts.num_documents, counts.num_empty, counts.num_chars) == (3, 1, 12)
    assert texts(taken(tmp_path, "a.jsonl", data)) == ["", " ", "a good line"]


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "first", "text": "second"}',
        '{"text": "same", "text": "same"}',
        '{"text": "a", "meta": {"id": 1, "id": 2}}',
        '{"text": "a", "tags": [{"x": 1, "x": 1}]}',
    ],
)
def test_two_equal_keys_are_an_error(tmp_path: Path, line: str) -> None:
    reported = refusal(tmp_path, GOOD + line.encode())
    assert re.search(r"line 2: duplicate key '(text|id|x)'", reported)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"message": {"content": "deep"}}, "deep"),
        ({"message.content": "dotted", "message": {"content": "deep"}}, "dotted"),
        ({"message": {"content": ""}}, ""),
    ],
)
def test_a_text_may_lie_below_other_keys(tmp_path: Path, line: dict[str, Any], text: str) -> None:
    data = json.dumps(line).encode()
    assert texts(taken(tmp_path, "a.jsonl", data, text_field="message.content")) == [text]


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("a.b.c", {"a": {"b": {"c": "x"}}}),
        ("a.b.c", {"a.b": {"c": "x"}, "a": {}}),
        ("a.b.c", {"a": {"b.c": "x"}}),
        ("messages.0.content", {"messages": [{"content": "x"}, {"content": "y"}]}),
        ("messages.1", {"messages": ["y", "x"]}),
        ("messages.0", {"messages": {"0": "x"}}),
    ],
)
def test_paths_go_through_objects_dotted_keys_and_lists(
    tmp_path: Path, field: str, line: dict[str, Any]
) -> None:
    assert texts(taken(tmp_path, "a.jsonl", json.dumps(line).encode(), text_field=field)) == ["x"]


@pytest.mark.parametrize(
    ("line", "is_missing", "message"),
    [
        ({"message": {"content": None}}, True, "'message.content' is null"),
        ({"message": None}, True, "'message.content' is null"),
        ({"message": {}}, True, "key 'message.content' not found (found: 'message')"),
        ({"other": "x"}, True, "key 'message.content' not found (found: 'other')"),
        ({"other": [{"a": "x"}]}, True, "(found: 'other'); set text_field to the right one"),
        ({"input_ids": [1, 2]}, True, "token ids are not read as texts: write lines such as"),
        ({"message.content": None, "message": {"content": "x"}}, True, "is null"),
        ({"message": "x"}, False, "str has no keys"),
        ({"message": {"content": ["x"]}}, False, "must be a string, not list"),
    ],
)
def test_errors_of_paths_of_keys(
    tmp_path: Path, line: dict[str, Any], is_missing: bool, message: str
) -> None:
    good = {"message": {"content": "good"}}
    data = "\n".join(map(json.dumps, (good, line))).encode()
    assert message in refusal(tmp_path, data, text_field="message.content")
    fields = {"text_field": "message.content", "missing": "skip"}
    if is_missing:
        assert counted(tmp_path, "a.jsonl", data, **fields).num_skipped == 1
    else:
        assert message in refusal(tmp_path, data, **fields)


WRONG_FORMATS = {
    "array": (json.dumps([{"text": "a"}] * 3), r"line 1: .*JSON array.*`jq -c '\.\[\]'"),
    "array-of-lines": ('[{"text": "a"},\n{"text": "b"}]\n', r"JSON array over .*`jq -c '\.\[\]'"),
    "array-pretty": (json.dumps([{"text": "a"}] * 99, indent=2), r"JSON array over .*`jq"),
    "object-pretty": (json.dumps({"text": "a"}, indent=2), r"pretty-printed.* 3 lines.*`jq -c \. "),
    "objects-pretty": ("\n".join([json.dumps({"text": "a"}, indent=1)] * 9), "pretty-printed"),
    "pretty-later": (GOOD.decode() * 3 + json.dumps({"text": "a"}, indent=1), "line 4: pretty-pr"),
    "newline-in-string": ('{"text": "a\nb"}\n', r"unescaped line end in a JSON string.* \\n"),
    "mark": (GOOD.decode() + "\ufeff" + GOOD.decode(), "line 2: a byte order mark inside the file"),
    "csv": ("id,text\n1,hello\n2,bye\n", r"starts with 'id,text'; convert a table"),
    "csv-quoted": ('"id","text"\n"1","hello"\n', "a table"),
    "tsv": ("text\tid\nhello\t1\n", "a table"),
    "prose": ("It was a dark night.\n", "starts with 'It was a dark night.'"),
    "true-story": ("text of a kind\n", "starts with 'text of a kind'"),
    "python": ("{'text': 'a'}\n", "a Python dict, not JSON"),
    "two-a-line": ('{"text": "a"}{"text": "b"}\n', r"more than one value on the line.*jq -c \."),
    "cut-short": (GOOD.decode() + '{"text": "b', "line 2: .*the line ends inside a value"),
    "string": ('"a text"\n', "expected a JSON object .* found \"a text\""),
    "number": ("3\n", "expected a JSON object .* found 3"),
    "null": ("null\n", "expected a JSON object .* found null"),
    "nested-too-deep": ("[" * 100_000, "nested too deeply"),
    "surrogate": ('{"text": "\\ud800"}', "unpaired surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_FORMATS)
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_files_that_are_not_json_lines_are_recognized(
    tmp_path: Path, name: str, suffix: str
) -> None:
    text, message = WRONG_FORMATS[name]
    data = text.encode()
    packed = gzip.compress(data) if suffix.endswith("gz") else data
    assert re.search(message, refusal(tmp_path, packed, f"a.{suffix}"))


def test_a_large_pretty_printed_file_is_recognized_before_its_end(tmp_path: Path) -> None:
    data = json.dumps([{"text": "a"}] * MAX_KEPT_LINES, indent=0).encode()
    assert "a JSON array over several lines" in refusal(tmp_path, data[:-9] + b"\xff")


def test_up_to_ten_invalid_lines_are_reported(tmp_path: Path) -> None:
    lines = ['{"text": "Größe"}', "", *(f'{{"text": {n}}}' for n in range(22)), '{"text": "a"}']
    data = "\n".join(lines).encode()
    reported = refusal(tmp_path, data)
    assert "22 of 24 lines are invalid" in reported
    places = re.findall(r"byte (\d+), line (\d+): 'text' must be a string, not int", reported)
    assert len(places) == 10
    for byte, number in places:
        line = lines[int(number) - 1].encode()
        assert data[int(byte) :].startswith(line)
    assert reported.endswith("and 12 more")


def test_a_few_invalid_lines_are_all_reported(tmp_path: Path) -> None:
    reported = refusal(tmp_path, GOOD + b'{"text": 1}\n{"text": null}\n{"text": \n')
    assert "3 of 4 lines" in reported
    assert "more" not in reported
    for part in (
        "line 2: 'text' must be a string, not int",
        "line 3: 'text' is null",
        "line 4: invalid JSON",
    ):
        assert part in reported


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "utf-32-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_places_are_bytes_of_the_unpacked_file(tmp_path: Path, encoding: str, newline: str) -> None:
    draw = "汉字 Größe "
    lines = [json.dumps({"text": draw * n}, ensure_ascii=False) for n in range(0, 4000, 37)]
    lines[41], lines[90] = '{"text": 汉}', '{"text": 7}'
    data = newline.join(lines).encode(encoding)
    assert len(data) > BLOCK_BYTES
    reported = refusal(tmp_path, gzip.compress(data), "a.jsonl.gz", encoding=encoding)
    places = re.findall(r"byte ([\d,]+), line (\d+): ", reported)
    assert [int(number) for _, number in places] == [42, 91]
    for byte, number in places:
        rest = data[int(byte.replace(",", "")) :]
        bare = {"utf-16": "utf-16-le", "utf-8-sig": "utf-8"}.get(encoding, encoding)
        assert rest.startswith(lines[int(number) - 1].encode(bare))


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "a", "x": NaN, "y": [Infinity, -Infinity]}',
        '  {"text": "a"}  \t',
        '{"text": "a", "id": 12345678901234567890123}',
        '\ufeff{"text": "a"}',
    ],
)
def test_what_python_reads_is_read(tmp_path: Path, line: str) -> None:
    assert texts(taken(tmp_path, "a.jsonl", line.encode())) == ["a"]


def test_a_nul_that_is_written_as_an_escape_is_meant(tmp_path: Path) -> None:
    assert texts(taken(tmp_path, "a.jsonl", b'{"text": "a\\u0000b"}')) == ["a\0b"]


def test_every_line_is_parsed_not_only_the_first(tmp_path: Path) -> None:
    assert "line 5,001" in refusal(tmp_path, GOOD * 5000 + b'{"text": 1}\n')


def test_a_corpus_that_was_changed_later_says_where(tmp_path: Path) -> None:
    corpus = taken(tmp_path, "a.jsonl", GOOD * 2)
    (tmp_path / "a.jsonl").write_bytes(GOOD + b'{"text": null}\n')
    with pytest.raises(PreflightError, match=f"byte {len(GOOD)}, line 2: 'text' is null"):
        texts(corpus)
