"""Tokenizers that lose text, as they are met in public repositories, and honest small ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

TEXT = (
    "The quick brown fox jumps over the lazy dog.\n"
    "Pack my box with five dozen liquor jugs.\n\n  indented\tline\n"
) * 50
END = "<|endoftext|>"
WHITE = Regex(r"\s+")


def byte_level(normalizer: Any = None, missing: str = "") -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(missing))
    tokenizer.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return tokenizer


def characters(unknown: str | None, alphabet: str = TEXT) -> Tokenizer:
    tokens = ([unknown] if unknown else []) + sorted(set(alphabet))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=unknown))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    """A Unigram as SentencePiece's usual options make it: white space is one space."""
    signs = sorted(set("▁" + TEXT) - set(" \n\t"))
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *((c, -5.0) for c in signs)], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(WHITE, " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def words() -> Tokenizer:
    tokens = ["<unk>", *sorted(set(TEXT.replace(".", " . ").split()))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


ALTERED: dict[str, Callable[[], Tokenizer]] = {
    "lossy-lowercase": lambda: byte_level(normalizers.Lowercase()),
    "lossy-accents": lambda: byte_level(
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    ),
    "lossy-strip": lambda: byte_level(normalizers.Strip()),
    "lossy-newlines": lambda: byte_level(normalizers.Replace("\n", " ")),
    "lossy-spaces": lambda: byte_level(normalizers.Replace(WHITE, " ")),
    "lossy-compatibility": lambda: byte_level(normalizers.NFKC()),
    "lossy-byte": lambda: byte_level(missing="Ă"),
    "lossy-characters-unk": lambda: characters("<unk>"),
    "lossy-characters-vanish": lambda: characters(None),
    "lossy-sentencepiece": sentencepiece_like,
    "lossy-words": words,
    "honest-characters": lambda: characters("<unk>"),
    "honest-dna": lambda: characters(None, "ACGTN\n"),
    "honest-bytes": byte_level,
}


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
