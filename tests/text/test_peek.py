import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from continuum.errors import IntegrityError, UsageError
from continuum.runs.artifacts import TokenizedDataset
from continuum.text.documents import read_index
from continuum.text.peek import CorpusDocuments, DatasetDocuments, TokenStream
from continuum.text.tokenizer import LoadedTokenizer, load_tokenizer
from tests.text.samples import json_lines, messy_text, write_corpus
from tests.text.tokenizations import read_back, tokenize
from tests.training.samples import token_stream, write_split

TEXTS = ["first document", "", "ein zweites, größer 😀", "last"]


@pytest.fixture
def made(trained_tokenizer: Path, tmp_path: Path) -> tuple[TokenizedDataset, list[Any]]:
    """A dataset of a book that validates and of four lines, one of them empty."""
    files = {"lines.jsonl": json_lines(TEXTS), "book.txt": messy_text(300)}
    corpus = write_corpus(tmp_path / "corpus", files)
    dataset = tokenize(
        tmp_path,
        trained_tokenizer,
        {"books": corpus},
        document="both",
        validation={"files": ("book.txt",)},
    )
    return dataset, list(corpus.items)


def test_documents_of_a_dataset_are_its_tokens_between_their_borders(
    made: tuple[TokenizedDataset, list[Any]],
) -> None:
    dataset, items = made
    train = DatasetDocuments(dataset, "train", items)
    shown = [train.one(number, 10**6) for number in range(1, len(train) + 1)]
    assert [it.text for it in shown] == [
        f"<|endoftext|>{text}<|endoftext|>" for text in TEXTS if text
    ]
    places = [(it.source, it.position) for it in shown]
    assert places == [("lines.jsonl", 1), ("lines.jsonl", 3), ("lines.jsonl", 4)]
    ids = [token.id for it in shown for token in it.tokens or ()]
    assert ids == read_back(dataset, "train")
    for it in shown:
        assert it.tokens is not None
        assert [token.is_special for token in it.tokens] == [
            number in (0, len(it.tokens) - 1) for number in range(len(it.tokens))
        ]
    validation = DatasetDocuments(dataset, "validation", items)
    assert len(validation) == 1
    book = validation.one(1, 7)
    assert (book.source, book.position) == ("book.txt", None)
    assert book.length == len(read_back(dataset, "validation"))
    assert book.shown_length == 7
    with pytest.raises(UsageError, match="no document 4: the train split has 3"):
        train.one(4, 10)


def test_documents_are_drawn_and_searched(made: tuple[TokenizedDataset, list[Any]]) -> None:
    dataset, items = made
    train = DatasetDocuments(dataset, "train", items)
    assert [it.number for it in train.some(9, 10, seed=None)] == [1, 2, 3]
    drawn = {tuple(it.number for it in train.some(1, 10, seed=seed)) for seed in range(30)}
    assert drawn == {(1,), (2,), (3,)}
    assert train.some(2, 10, seed=5) == train.some(2, 10, seed=5)
    (found,) = train.matching(re.compile("größer"), length=3)
    assert found.number == 2
    assert "gr" in found.text
    assert found.start > 0
    assert not list(train.matching(re.compile("absent"), 5))


def test_documents_of_a_corpus_are_shown_as_they_are_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"a.jsonl": json_lines(TEXTS), "b.txt": "x" * 50 + "needle"})
    documents = CorpusDocuments(corpus)
    assert documents.one(3, 8).text == "ein zwei"
    assert documents.one(3, 8).length == len(TEXTS[2])
    assert documents.one(5, 100).source == "b.txt"
    with pytest.raises(UsageError, match="no document 6: the corpus has 5"):
        documents.one(6, 5)
    (found,) = documents.matching(re.compile("needle"), 9)
    assert (found.number, found.start, found.text) == (5, 47, "xxxneedle")
    drawn = {tuple(it.number for it in documents.some(2, 1, seed=seed)) for seed in range(200)}
    assert len(drawn) == 10, "each pair of the five documents"


def test_the_index_of_another_split_is_refused(
    made: tuple[TokenizedDataset, list[Any]],
) -> None:
    dataset, _ = made
    index = read_index(dataset.path, "train", dataset.train)
    assert index is not None
    assert int(index["end"][-1]) == dataset.train.num_tokens
    path = dataset.documents_dir / "train.index"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"train\.index has 47 bytes, expected 48"):
        DatasetDocuments(dataset, "train", ())


def test_without_an_index_a_split_is_one_document(
    made: tuple[TokenizedDataset, list[Any]],
) -> None:
    dataset, items = made
    (dataset.documents_dir / "train.index").unlink()
    documents = DatasetDocuments(dataset, "train", items)
    assert not documents.has_index
    assert documents.one(1, 10**6).length == dataset.train.num_tokens


def test_tokens_are_read_from_any_place_over_the_borders_of_chunks(tmp_path: Path) -> None:
    everything = token_stream(1000)
    split = write_split(tmp_path, everything, chunk_tokens=64)
    stream = TokenStream(tmp_path, split, "uint16")
    assert len(stream) == len(everything)
    for start, end in ((0, 1000), (63, 65), (64, 128), (10, 10), (999, 1000), (130, 900)):
        assert stream.read(start, end).tolist() == everything[start:end]


def _save(tokenizer: Tokenizer, folder: Path) -> LoadedTokenizer:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def test_a_token_is_shown_by_its_own_bytes(tmp_path: Path) -> None:
    byte_level = Tokenizer(
        models.BPE(
            vocab={c: n for n, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]
        )
    )
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.add_special_tokens(["<s>"])
    found = _save(byte_level, tmp_path / "bytes")
    text = "".join(map(chr, range(1, 0x250))) + "😀"
    ids = byte_level.encode(text, add_special_tokens=False).ids
    assert [found.bytes_of(it) for it in ids] == [bytes([byte]) for byte in text.encode()]
    special = byte_level.token_to_id("<s>")
    assert special is not None
    assert special in found.special_ids
    assert found.bytes_of(special) == b"<s>"
    byte_level.decoder = None
    found = _save(byte_level, tmp_path / "without a decoder")
    assert b"".join(map(found.bytes_of, ids)) == text.encode()

    pieces = {"<unk>": 0, "▁a": 1, "b": 2, "<0xE2>": 3, "▁": 4, "a": 5}
    metaspace = Tokenizer(models.BPE(vocab=pieces, merges=[("▁", "a")], unk_token="<unk>"))
    metaspace.normalizer = normalizers.Replace(" ", "▁")
    metaspace.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    found = _save(metaspace, tmp_path / "metaspace")
    assert [found.bytes_of(it) for it in (1, 2, 3, 4)] == [b" a", b"b", b"\xe2", b" "]


def test_counts_by_source_add_up(made: tuple[TokenizedDataset, list[Any]]) -> None:
    dataset, _ = made
    assert dataset.sources is not None
    lines, book = dataset.sources
    assert (lines.source, lines.split, lines.num_documents) == ("lines.jsonl", "train", 3)
    assert lines.num_chars == sum(map(len, TEXTS))
    assert lines.size_bytes == sum(len(text.encode()) for text in TEXTS)
    assert lines.num_tokens == dataset.train.num_tokens
    assert (book.source, book.split, book.num_documents) == ("book.txt", "validation", 1)
    assert book.size_bytes == len(messy_text(300).encode())
    assert dataset.validation is not None
    assert book.num_tokens == dataset.validation.num_tokens
    assert np.isclose(dataset.bytes_per_token("train") or 0, lines.size_bytes / lines.num_tokens)
