import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers

from continuum.errors import PreflightError
from continuum.runs.artifacts import CorpusItem, TokenizedDataset
from continuum.runs.events import Event
from continuum.runs.text_records import TextLoss
from continuum.text.chunks import TextChunk
from continuum.text.inspection import inspect_tokenizer
from continuum.text.reading import Document
from continuum.text.text_loss import compare
from tests.support import run_stage, warnings_in
from tests.text.made_tokenizers import ALTERED, TEXT, byte_level_bpe, characters, save
from tests.text.samples import json_lines, write_corpus
from tests.text.tokenizations import make


def tokenized(
    folder: Path, tokenizer: Tokenizer, files: dict[str, str | bytes], **fields: Any
) -> tuple[TextLoss, list[str]]:
    """What was recorded, and the warnings."""
    corpus = write_corpus(folder / "corpus", files)
    events: list[Event] = []
    stage = make(folder, document="none", **fields)
    inputs = {"books": corpus, "tokenizer": inspect_tokenizer(save(tokenizer, folder / "tok"))}
    made = run_stage(stage, folder, inputs=inputs, events=events)
    assert isinstance(made, TokenizedDataset)
    assert made.loss is not None
    return made.loss, warnings_in(events)


PASSED_OVER = 1_005_000
"""A character of a text of two million that no window of the sample is near."""


def losing(messages: Sequence[str]) -> list[str]:
    return [message for message in messages if "loses text" in message]


REFUSED = {
    "lossy-lowercase": (TEXT, "100 capital letters"),
    "lossy-accents": ("naïve café à Zürich\n" * 50, "200 accents"),
    "lossy-strip": (json_lines(["  one line\n", "another line\n"] * 9), "spaces and tabs"),
    "lossy-newlines": (TEXT, "200 line ends"),
    "lossy-spaces": (TEXT, "line ends"),
    "lossy-compatibility": ("x² ½ ﬁne\n" * 90, "changed characters"),
    "lossy-byte": ("abc\u0002" * 90, "90 vanished characters"),
    "lossy-characters-unk": ("नमस्ते दुनिया\n" * 50, "unknown characters"),
    "lossy-characters-vanish": ("नमस्ते दुनिया\n" * 50, "vanished characters"),
    "lossy-sentencepiece": (TEXT, "line ends"),
    "lossy-words": (TEXT, "line ends"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_that_loses_text_is_refused_with_numbers_and_a_place_or_allowed(
    name: str, tmp_path: Path
) -> None:
    text, kind = REFUSED[name]
    book = "book.jsonl" if text.startswith("{") else "book.txt"
    with pytest.raises(PreflightError) as failure:
        tokenized(tmp_path, ALTERED[name](), {book: text})
    message = str(failure.value)
    assert kind in message
    assert f"in {book}, document 1, character " in message
    assert "`lossy: allow`" in message
    loss, warnings = tokenized(tmp_path, ALTERED[name](), {book: text}, lossy="allow")
    assert sum(loss.lost.values()) > loss.num_compared / 1000
    assert loss.examples
    assert len(losing(warnings)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("honest-characters", TEXT),
        ("honest-dna", "ACGTNACGTT\n" * 500),
        ("honest-bytes", TEXT + "naïve 日本語 नमस्ते \u0004\r\n"),
    ],
)
def test_an_honest_tokenizer_is_used_without_a_word(name: str, text: str, tmp_path: Path) -> None:
    loss, warnings = tokenized(tmp_path, ALTERED[name](), {"book.txt": text})
    assert (loss.lost, loss.never_kept, loss.num_unknown) == ({}, {}, loss.num_unknown and 0)
    assert loss.num_chars == len(text)
    assert losing(warnings) == []


def test_a_rare_character_that_vanishes_anywhere_is_counted(tmp_path: Path) -> None:
    lines = [TEXT] * 300
    lines[137] += "\u0002 one"
    lines[201] += "\u0002 and \u0002"
    text = "".join(lines)
    loss, warnings = tokenized(tmp_path, byte_level_bpe(missing="Ă"), {"book.txt": text})
    (warning,) = losing(warnings)
    assert sum(loss.lost.values()) < 3
    assert loss.never_kept == {"vanished characters": 3}
    assert f"3 of {len(text):,} characters of the corpus" in warning
    places = [place + 1 for place, char in enumerate(text) if char == "\u0002"]
    assert any(f"in book.txt, document 1, character {place:,}" in warning for place in places)


def test_more_than_a_thousandth_that_the_sample_did_not_meet_is_refused(tmp_path: Path) -> None:
    text = TEXT * 390
    text = text[:PASSED_OVER] + "\u0002" * 3000 + text[PASSED_OVER:]
    with pytest.raises(PreflightError, match=r"3,000 of .* are always lost"):
        tokenized(tmp_path, byte_level_bpe(missing="Ă"), {"book.txt": text})


def test_a_few_unknown_ids_are_a_warning_and_written_ones_are_none(tmp_path: Path) -> None:
    tokenizer = characters("<unk>", TEXT + "<>")
    tokenizer.add_special_tokens(["<unk>"])
    text = TEXT * 9 + "<unk> é <unk> ü"
    loss, warnings = tokenized(tmp_path, tokenizer, {"book.txt": text})
    (warning,) = losing(warnings)
    assert loss.num_unknown == 2
    assert loss.never_kept == {"unknown characters": 2}
    assert "2 ids are unknown tokens" in warning


def test_ends_of_short_documents_are_compared_beyond_the_sample(tmp_path: Path) -> None:
    documents = [f"{number} {TEXT[:700]}." for number in range(2000)]
    documents[1077] += "\n"
    tokenizer = byte_level_bpe(normalizers.Strip())
    loss, warnings = tokenized(tmp_path, tokenizer, {"a.jsonl": json_lines(documents)})
    assert loss.num_compared > 1_000_000
    assert loss.lost["line ends"] == 1
    assert "document 1,078" in losing(warnings)[0]


def test_text_in_another_canonical_form_is_not_lost_but_a_warning(tmp_path: Path) -> None:
    text = unicodedata.normalize("NFD", "naïve café à Zürich 한국어\n" * 50)
    loss, warnings = tokenized(tmp_path, byte_level_bpe(normalizers.NFC()), {"book.txt": text})
    assert (loss.lost, losing(warnings)) == ({}, [])
    assert loss.rewritten > 200
    assert any("another canonical form" in warning for warning in warnings)


def test_the_place_of_a_loss_in_a_divided_document_is_that_of_the_document(tmp_path: Path) -> None:
    text = TEXT * 60 + "\u0002" + TEXT
    loss, _ = tokenized(
        tmp_path, byte_level_bpe(missing="Ă"), {"book.txt": text}, validation={"fraction": 0.1}
    )
    assert {example.character for example in loss.examples} == {text.index("\u0002") + 1}


@pytest.mark.parametrize(
    ("text", "decoded", "lost"),
    [
        ("a\nb\n", "a b ", {"line ends": 2}),
        ("a  b", "a b", {"spaces and tabs": 1}),
        ("Ab", "ab", {"capital letters": 1}),
        ("é", "e", {"accents": 1}),
        ("a²", "a2", {"changed characters": 1}),
        ("aй", "a", {"vanished characters": 1}),
        ("aй<unk>", "a<unk><unk>", {"unknown characters": 1}),
        ("ab", "a b", {"added characters": 1}),
        ("ab", "ba", {"changed order": 1}),
        ("e\u0301", "é", {}),
    ],
)
def test_losses_are_counted_by_kind(text: str, decoded: str, lost: dict[str, int]) -> None:
    assert compare(TextChunk(text), decoded, "<unk>").lost == lost


def test_white_space_at_the_end_of_an_excerpt_counts_where_the_document_ends() -> None:
    inside = TextChunk(" a b\n", start=10, begins=False, ends=False)
    assert compare(inside, "a b").lost == {}
    whole = TextChunk(" a b\n")
    assert compare(whole, "a b").lost == {"spaces and tabs": 1, "line ends": 1}


def test_an_example_names_the_character_in_the_text_as_it_is_written() -> None:
    text = "e\u0301" * 3 + "X"
    item = CorpusItem(file="a.txt", source="a.txt", size_bytes=0, sha256="", format="txt")
    chunk = TextChunk(text, Document(item, 1, iter(())), start=100)
    (example,) = compare(chunk, "é" * 3 + "x").examples
    assert (example.document, example.character) == (2, 107)
    assert str(example).startswith("capital letters in a.txt, document 2, character 107: ")
