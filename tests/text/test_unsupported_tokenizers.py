"""Folders and files of tokenizers that are not read: what they are said to be."""

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import PreflightError
from continuum.stages.import_ import Import
from continuum.text.inspection import check_tokenizer, inspect_tokenizer
from continuum.text.unsupported_tokenizers import is_sentencepiece
from tests.support import make_stage, run_stage

TIKTOKEN = b"".join(
    base64.b64encode(word) + b" %d\n" % rank
    for rank, word in enumerate([b"!", b"the", b" and", "é".encode(), b"\xf0\x9f"])
)
RWKV = rb"""1 '\x00' 1
2 '\x01' 1
257 "it's" 4
258 b'\xe2\x80' 2
"""
TEKKEN = json.dumps(
    {
        "config": {"pattern": "x", "default_vocab_size": 131072},
        "vocab": [{"rank": 0, "token_bytes": "AA==", "token_str": None}],
        "special_tokens": [],
    }
).encode()


def piece(text: str, score: bytes = b"\x15\x00\x00\x80\xbf", kind: bytes = b"") -> bytes:
    """One piece of a SentencePiece model, as protobuf writes it."""
    inner = b"\x0a" + bytes([len(text.encode())]) + text.encode() + score + kind
    return b"\x0a" + bytes([len(inner)]) + inner


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
SENTENCEPIECE = piece("<unk>", kind=b"\x18\x02") + piece("▁the") + piece("é") + b"\x12\x02\x18\x01"


@pytest.mark.parametrize("look", [inspect_tokenizer, check_tokenizer])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer.model": TIKTOKEN}, ["tokenizer.model is a tiktoken vocabulary", "Llama 3"]),
        ({"tokenizer.model": TIKTOKEN.strip()}, ["is a tiktoken vocabulary"]),
        ({"tokenizer.model": RWKV}, ["RWKV World vocabulary"]),
        ({"tokenizer.model": TEKKEN}, ["Mistral's Tekken"]),
        ({"tokenizer.model": b'{"version": "1.0"}'}, ["is JSON", "rename it to tokenizer.json"]),
        ({"tokenizer.model": b""}, ["is empty"]),
        ({"tokenizer.model": LFS}, ["git lfs pull"]),
        ({"tokenizer.model": b"\n<!DOCTYPE html><html>"}, ["is an HTML page"]),
        ({"tokenizer.model": b"\x1f\x8b\x08\x00"}, ["gzip"]),
        ({"tokenizer.model": b"PK\x03\x04 archive"}, ["a zip archive"]),
        ({"tokenizer.model": b"\x0a\x05hello"}, ["is not a valid SentencePiece model"]),
        ({"tekken.json": TEKKEN}, ["tekken.json is Mistral's Tekken", "convert_tekken_tokenizer"]),
        ({"rwkv_vocab_v20230424.txt": RWKV}, ["rwkv_vocab_v20230424.txt is an RWKV World"]),
        ({"tokenizer.model.v3": SENTENCEPIECE}, ["tokenizer.model.v3 is a SentencePiece model"]),
        ({"m.model.v7m1": SENTENCEPIECE}, ["copy it to tokenizer.model"]),
        ({"qwen.tiktoken": TIKTOKEN}, ["qwen.tiktoken is a tiktoken vocabulary", "Qwen 1"]),
        ({"vocab.json": b"{}", "merges.txt": b""}, ["GPT-2's old format", "AutoTokenizer"]),
        ({"encoder.json": b"{}", "vocab.bpe": b""}, ["openai-community/gpt2"]),
        ({"vocab.txt": b"[UNK]\n"}, ["WordPiece vocabulary (BERT)"]),
        ({"spiece.model": SENTENCEPIECE}, ["under another name", "save_pretrained"]),
        ({"tokenizer.pkl": b""}, ["nanochat's"]),
        ({"tokenizer_config.json": b"{}"}, ["the vocabulary is missing"]),
        (
            {"notes.txt": b""},
            ["tokenizer.json (or tokenizer.model) not found; name a folder"],
        ),
    ],
)
def test_unsupported_tokenizers_are_recognized(
    look: Any, files: dict[str, bytes], words: list[str], tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PreflightError) as caught:
        look(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "pip install sentencepiece" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TEKKEN, ["Mistral's Tekken"]),
        (LFS, ["git lfs pull"]),
        (b"<!DOCTYPE html><html><body>", ["is an HTML page"]),
        (b"Not Found", ["is not valid JSON"]),
        (b'{"model": {"type"', ["is not valid JSON"]),
        (b"[1]", ["contains a JSON list"]),
        (b'{"class_name": "Tokenizer", "config": {}}', ["is a Keras tokenizer"]),
        (b'{"hello": 0, "world": 1}', ["only a vocabulary"]),
        (b'{"tokenizer_class": "X"}', ["a renamed tokenizer_config.json"]),
        (b"{}", ["the key `model` is missing"]),
        (SENTENCEPIECE, ["is a SentencePiece model; rename it to tokenizer.model"]),
        (b'{"model": {"type": "Morphemes", "vocab": {}}}', ["in its model (Morphemes)"]),
        (
            b'{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0},'
            b' "merges": []}, "pre_tokenizer": {"type": "Sequence", "pretokenizers":'
            b' [{"type": "ByteLevel"}, {"type": "Telepathy"}]}}',
            ["in its pre_tokenizer (Sequence, ByteLevel, Telepathy)"],
        ),
    ],
)
def test_an_invalid_tokenizer_json_is_recognized(
    content: bytes, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(PreflightError) as caught:
        inspect_tokenizer(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value
    for rust in ("untagged enum", "ModelWrapper", "variant"):
        assert rust not in str(caught.value)


def test_a_sentencepiece_model_is_known_by_its_content(tmp_path: Path) -> None:
    assert is_sentencepiece(SENTENCEPIECE)
    assert not any(map(is_sentencepiece, (TIKTOKEN, RWKV, TEKKEN, b"", b"\n" * 50, b"\x0a")))
    is_installed = importlib.util.find_spec("sentencepiece") is not None
    message = "not a valid" if is_installed else "is a SentencePiece model and needs a package"
    (tmp_path / "tokenizer.model").write_bytes(SENTENCEPIECE[:-1])
    with pytest.raises(PreflightError, match=message):
        inspect_tokenizer(tmp_path)


def test_errors_name_the_folder_as_the_spec_does(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "llama"
    folder.mkdir(parents=True)
    stage = make_stage(Import, tmp_path, path="models/llama", **{"as": "tokenizer"})
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("")
    (problem,) = map(str, stage.forecast({}, tmp_path).problems)
    assert problem.startswith("models/llama: tokenizer.json (or tokenizer.model) not found")
    assert "T.from_pretrained('models/llama')" in problem
    (folder / "tokenizer.model").write_bytes(TIKTOKEN)
    (problem,) = map(str, stage.forecast({}, tmp_path).problems)
    assert problem.startswith("models/llama/tokenizer.model is a tiktoken vocabulary")
    (folder / "tokenizer.json").write_text('{"model": {"type": "Morphemes"}}')
    with pytest.raises(PreflightError) as caught:
        run_stage(stage, tmp_path)
    assert str(caught.value).startswith("models/llama/tokenizer.json: the `tokenizers` library")
    assert "output" not in str(caught.value)
