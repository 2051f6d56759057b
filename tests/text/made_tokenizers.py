"""Small tokenizers made from nothing: with tokens across borders, losing text, or honest."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from continuum.text.safe_places import BYTE_SIGNS

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
POSSESSIVE = (
    r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
ALPHABET = (
    "absA1²,.'-<> \n\r\t_e\u0301\u0323éś\u017fß\uff41ﬁ。、日本가각\u1112\u1161\u11a8▁ิก\u00a0😀"
)
"""Letters that compose, digits, marks, signs, several spaces, scripts without spaces."""


def bpe(
    merges: Sequence[tuple[str, str]],
    *,
    alphabet: str = ALPHABET,
    added: Sequence[AddedToken] = (),
    normalizer: Any = None,
    pre_tokenizer: Any = None,
    **options: Any,
) -> Tokenizer:
    """A BPE with these merges, as far as their parts are tokens."""
    tokens = dict.fromkeys(["<unk>", *BYTE_SIGNS, *alphabet])
    usable = []
    for left, right in merges:
        if left in tokens and right in tokens and left + right not in tokens:
            tokens[left + right] = None
            usable.append((left, right))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, usable, **{"unk_token": "<unk>"} | options))
    tokenizer.decoder = decoders.Fuse()
    return _dressed(tokenizer, added, normalizer, pre_tokenizer)


def unigram(
    scores: Sequence[tuple[str, float]],
    *,
    added: Sequence[AddedToken] = (),
    normalizer: Any = None,
    pre_tokenizer: Any = None,
) -> Tokenizer:
    """A Unigram of these tokens, of which the first is for the unknown."""
    vocabulary = dict([("<unk>", 0.0), *((char, -9.0) for char in "ab 1,▁。日"), *scores])
    tokenizer = Tokenizer(models.Unigram(list(vocabulary.items()), unk_id=0))
    return _dressed(tokenizer, added, normalizer, pre_tokenizer)


def _dressed(
    tokenizer: Tokenizer, added: Sequence[AddedToken], normalizer: Any, pre_tokenizer: Any
) -> Tokenizer:
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if added:
        tokenizer.add_tokens(list(added))
    return tokenizer


def split(pattern: str, behavior: str = "isolated", *, invert: bool = False) -> Any:
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(**options: Any) -> Any:
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False} | options)


def in_turn(*steps: Any) -> Any:
    return pre_tokenizers.Sequence(list(steps))


PRE_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "byte-level": byte_level,
    "byte-level-prefix": lambda: byte_level(add_prefix_space=True),
    "bytes-only": lambda: byte_level(use_regex=False),
    "llama3": lambda: in_turn(split(LLAMA3), byte_level(use_regex=False)),
    "o200k": lambda: in_turn(split(O200K), byte_level(use_regex=False)),
    "possessive": lambda: in_turn(split(POSSESSIVE), byte_level(use_regex=False)),
    "matches-kept": lambda: split(LLAMA3, "removed", invert=True),
    "gaps": lambda: in_turn(split(r"\p{N}{1,3}"), split(r"[一-龥]+"), split(r"[\p{L}\p{M}]+")),
    "with-previous": lambda: split(r" |,", "merged_with_previous"),
    "with-next": lambda: split(r" |,", "merged_with_next"),
    "contiguous": lambda: split(r"[ ,]", "contiguous"),
    "metaspace": lambda: pre_tokenizers.Metaspace(),
    "metaspace-first": lambda: pre_tokenizers.Metaspace(prepend_scheme="first"),
    "metaspace-never": lambda: pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
    "digits": lambda: in_turn(pre_tokenizers.Digits(individual_digits=True), byte_level()),
    "digit-runs": lambda: pre_tokenizers.Digits(),
    "words": lambda: pre_tokenizers.Whitespace(),
    "whitespace": lambda: pre_tokenizers.WhitespaceSplit(),
    "punctuation": lambda: pre_tokenizers.Punctuation(),
    "bert": lambda: pre_tokenizers.BertPreTokenizer(),
    "delimiter": lambda: pre_tokenizers.CharDelimiterSplit(","),
    "ahead": lambda: split(r"a(?=b1)|[ab]+(?! )|\s+$|[^ab]"),
    "behind": lambda: split(r"(?<=a)b|."),
    "bounds": lambda: split(r"\b\w+|."),
    "scripts": lambda: pre_tokenizers.UnicodeScripts(),
}
NORMALIZERS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "NFC": normalizers.NFC,
    "NFD": normalizers.NFD,
    "NFKC": normalizers.NFKC,
    "NFKD": normalizers.NFKD,
    "sign": lambda: normalizers.Replace(" ", "▁"),
    "longer": lambda: normalizers.Replace("ab", "1"),
    "prepend": lambda: normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    ),
    "strip": normalizers.Strip,
    "expression": lambda: normalizers.Replace(Regex(r"\s+"), " "),
    "bert": normalizers.BertNormalizer,
    "plain": lambda: normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    ),
    "nmt": lambda: normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]),
}
ADDED: dict[str, tuple[AddedToken, ...]] = {
    "none": (),
    "plain": (AddedToken("<a>", normalized=False), AddedToken("a ", normalized=False)),
    "normalized": (AddedToken("  ", normalized=True), AddedToken("e\u0301,", normalized=True)),
    "words": (AddedToken("ab", single_word=True, normalized=False),),
    "strips": (
        AddedToken("<", lstrip=True, normalized=False),
        AddedToken(">", rstrip=True, normalized=False),
    ),
}


TEXT = (
    "The quick brown fox jumps over the lazy dog.\n"
    "Pack my box with five dozen liquor jugs.\n\n  indented\tline\n"
) * 50
END = "<|endoftext|>"
WHITE = Regex(r"\s+")


def byte_level_bpe(normalizer: Any = None, missing: str = "") -> Tokenizer:
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
    "lossy-lowercase": lambda: byte_level_bpe(normalizers.Lowercase()),
    "lossy-accents": lambda: byte_level_bpe(
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    ),
    "lossy-strip": lambda: byte_level_bpe(normalizers.Strip()),
    "lossy-newlines": lambda: byte_level_bpe(normalizers.Replace("\n", " ")),
    "lossy-spaces": lambda: byte_level_bpe(normalizers.Replace(WHITE, " ")),
    "lossy-compatibility": lambda: byte_level_bpe(normalizers.NFKC()),
    "lossy-byte": lambda: byte_level_bpe(missing="Ă"),
    "lossy-characters-unk": lambda: characters("<unk>"),
    "lossy-characters-vanish": lambda: characters(None),
    "lossy-sentencepiece": sentencepiece_like,
    "lossy-words": words,
    "honest-characters": lambda: characters("<unk>"),
    "honest-dna": lambda: characters(None, "ACGTN\n"),
    "honest-bytes": byte_level_bpe,
}


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
