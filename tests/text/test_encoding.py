import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers

from continuum.errors import StageFailedError
from continuum.text.chunks import LONG_CHUNK_CHARS
from continuum.text.encoding import (
    PORTION_CHARS,
    GigatokenEncoder,
    Method,
    Reference,
    check_ids,
    choose_method,
    portions,
)
from continuum.text.tokenizer import load_tokenizer
from tests.text.samples import books, messy_text, prose
from tests.text.tokenizations import encode_whole


def encode_with(method: Method, text: str) -> list[int]:
    texts = list(method.chunker.cut((text,))) if method.chunker else [text]
    return list(method.encoder.encode(texts).ids.tolist())


def test_real_books_have_the_tokens_of_the_whole(tokenizer_folder: Path) -> None:
    for book in books():
        method = choose_method(tokenizer_folder, [book[:50_000]])
        assert method.encoder.name == "gigatoken"
        assert encode_with(method, book) == encode_whole(tokenizer_folder, book)


@pytest.mark.parametrize("seed", range(3))
def test_messy_text_has_the_tokens_of_the_whole(tokenizer_folder: Path, seed: int) -> None:
    text = messy_text(30_000, seed)
    method = choose_method(tokenizer_folder, [messy_text(3000, seed=99)])
    assert encode_with(method, text) == encode_whole(tokenizer_folder, text)


def test_the_text_of_a_special_token_becomes_that_token(tokenizer_folder: Path) -> None:
    text = "one<|endoftext|> two <|endoftext|>"
    ids = encode_with(choose_method(tokenizer_folder, [text]), text)
    assert ids.count(0) == 2
    assert ids == encode_whole(tokenizer_folder, text)


def test_a_tokenizer_that_sees_beyond_words_is_cut_between_its_tokens(tmp_path: Path) -> None:
    vocabulary = {"<unk>": 0, **{chr(97 + i): i + 1 for i in range(26)}, " ": 27, "a ": 28}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", " ")], unk_token="<unk>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "a cat sat on a sofa " * 5000
    method = choose_method(tmp_path, [text])
    assert method.chunker is not None
    chunks = list(method.chunker.cut((text,)))
    assert len(chunks) > 3
    assert not any(left[-1] + right[0] == "a " for left, right in pairwise(chunks))
    assert encode_with(method, text) == encode_whole(tmp_path, text)


def test_a_tokenizer_without_a_provable_place_is_not_cut(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(trained_tokenizer / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Prepend("x")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = messy_text(5000)
    method = choose_method(tmp_path, [text])
    assert method.chunker is None
    assert "Prepend), so each document is tokenized in one pass" in method.remarks[0]
    assert encode_with(method, text) == encode_whole(tmp_path, text)


def test_a_long_text_without_a_safe_place_is_a_warning(trained_tokenizer: Path) -> None:
    method = choose_method(trained_tokenizer, ["text"])
    assert method.chunker is not None
    assert method.late_remarks() == ()
    text = "=" * (LONG_CHUNK_CHARS + 2)
    assert list(method.chunker.cut((text,))) == [text]
    assert "1 chunk of more than" in method.late_remarks()[0]


def test_a_tokenizer_that_gigatoken_lacks_uses_tokenizers(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(trained_tokenizer / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.StripAccents()]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = messy_text(5000)
    method = choose_method(tmp_path, [text])
    assert method.encoder.name == "tokenizers"
    assert "gigatoken" in method.remarks[-1]
    assert encode_with(method, text) == encode_whole(tmp_path, text)


def test_what_gigatoken_cannot_encode_goes_to_tokenizers(trained_tokenizer: Path) -> None:
    encoder = GigatokenEncoder(Reference(load_tokenizer(trained_tokenizer)))
    with pytest.raises(TypeError):  # half a surrogate pair: neither takes it
        encoder.encode(["\ud800"])
    assert encoder.name == "gigatoken, tokenizers"
    assert encoder.encode(["one two"]).ids.tolist() == encode_whole(trained_tokenizer, "one two")


def test_lengths_tell_the_texts_apart(tokenizer_folder: Path) -> None:
    texts = ["one", "", "two three four", messy_text(100)]
    encoded = choose_method(tokenizer_folder, texts).encoder.encode(texts)
    expected = [encode_whole(tokenizer_folder, text) for text in texts]
    found = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
    assert [part.tolist() for part in found] == expected


def test_neighbours_make_portions_of_a_size() -> None:
    assert list(portions([3, 1, 2, 5, 1], int, 4)) == [[3, 1], [2, 5], [1]]
    assert list(portions([], int, 4)) == []


def test_texts_of_several_portions_keep_their_tokens(trained_tokenizer: Path) -> None:
    texts = [prose(), messy_text(50_000), "x", prose()]
    assert sum(map(len, texts)) > PORTION_CHARS
    encoded = Reference(load_tokenizer(trained_tokenizer)).encode(texts)
    expected = [encode_whole(trained_tokenizer, text) for text in texts]
    assert encoded.lengths.tolist() == list(map(len, expected))
    assert encoded.ids.tolist() == [token for ids in expected for token in ids]


def test_truncation_and_padding_written_in_the_file_are_off(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_tokenizer, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(path))
    assert json.loads(path.read_text(encoding="utf-8"))["truncation"]
    text = messy_text(500)
    method = choose_method(tmp_path, [text])
    assert encode_with(method, text) == encode_whole(trained_tokenizer, text)


def test_an_id_beyond_the_vocabulary_is_refused(trained_tokenizer: Path) -> None:
    encoded = Reference(load_tokenizer(trained_tokenizer)).encode(["the whale"])
    largest = int(encoded.ids.max())
    check_ids(encoded, largest + 1)
    with pytest.raises(StageFailedError, match=f"largest id is {largest - 1}"):
        check_ids(encoded, largest)
