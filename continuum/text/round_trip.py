"""A text to ids and back, as exactly as a tokenizer can.

Decoders made for reading drop or add spaces around punctuation; here they must not, because what
they give is compared with the text.
"""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer, decoders

from continuum.errors import PreflightError
from continuum.processors import num_processors
from continuum.text.components import BYTE_SIGNS, component_kinds
from continuum.text.tokenizing import load_sentencepiece, load_tokenizer_json, vocabulary_file

NUM_TRIED_TOKENS = 1000
UNUSED_BYTES = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))
"""Of UTF-8."""
LOSSLESS_NORMALIZERS = frozenset(("NFC", "NFD"))
LOSSLESS_PRE_TOKENIZERS = frozenset(("ByteLevel", "Digits", "Split"))


class RoundTrip(Protocol):
    """Encodes and decodes whole texts."""

    unknown_id: int | None
    """The id of what the vocabulary lacks."""
    unknown_text: str
    """How that id is decoded; empty if there is none."""
    is_literal: bool
    """Whether that text, written in a document, becomes that id."""
    keeps_all_bytes: bool
    """Whether no character can be lost, whatever its neighbours: all bytes are tokens."""
    reads_words: bool
    """Whether a character is known or not by the word around it."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]: ...

    def encodes_its_tokens(self) -> bool:
        """Whether there is any text that it makes tokens of."""
        ...


def load_round_trip(folder: Path) -> RoundTrip:
    """The round trip of the tokenizer in `folder`.

    Raises:
        PreflightError: it cannot be loaded.
    """
    if vocabulary_file(folder).name == "tokenizer.json":
        return TokenizersRoundTrip(load_tokenizer_json(folder), folder)
    return SentencePieceRoundTrip(folder)


class TokenizersRoundTrip:
    """Through Hugging Face `tokenizers`."""

    def __init__(self, tokenizer: Tokenizer, folder: Path) -> None:
        self._tokenizer = tokenizer
        self._folder = folder
        model = tokenizer.model
        name = type(model).__name__
        unknown = getattr(model, "unk_token", None)
        self.unknown_id = tokenizer.token_to_id(unknown) if isinstance(unknown, str) else None
        if name == "Unigram":
            self.unknown_id = json.loads(model.__getstate__()).get("unk_id")
        self.unknown_text = ""
        if self.unknown_id is not None:
            self.unknown_text = tokenizer.id_to_token(self.unknown_id) or ""
        added = tokenizer.get_added_tokens_decoder().values()
        self.is_literal = self.unknown_text in {token.content for token in added}
        self.reads_words = name in ("WordLevel", "WordPiece")
        self.keeps_all_bytes = _keeps_all_bytes(tokenizer)
        decoder = _exact_decoder(tokenizer)
        if decoder is not None:
            tokenizer.decoder = decoder

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:
            if type(error) is not Exception:  # the library's own are bare
                raise
            raise PreflightError(
                f"{self._folder}: the tokenizer cannot encode this text ({error}); "
                "use one whose vocabulary has a token for what it does not know"
            ) from error
        return [encoding.ids for encoding in encodings]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return list(self._tokenizer.decode_batch(list(rows), skip_special_tokens=False))

    def encodes_its_tokens(self) -> bool:
        for text in islice(self._tokenizer.get_vocab(with_added_tokens=False), NUM_TRIED_TOKENS):
            try:
                if any(self.encode([text])):
                    return True
            except PreflightError:
                continue
        return False


class SentencePieceRoundTrip:
    """Through Google's `sentencepiece`."""

    is_literal = False
    keeps_all_bytes = False
    reads_words = False

    def __init__(self, folder: Path) -> None:
        self._processor = load_sentencepiece(folder)
        unknown_id = int(self._processor.unk_id())
        self.unknown_id = unknown_id if unknown_id >= 0 else None
        self.unknown_text = self._processor.decode([unknown_id]) if unknown_id >= 0 else ""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = self._processor.encode(list(texts), num_threads=num_processors())
        return rows

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [str(self._processor.decode(list(row))) for row in rows]

    def encodes_its_tokens(self) -> bool:
        return True


def _exact_decoder(tokenizer: Tokenizer) -> Any:
    """A decoder to use instead of the tokenizer's; None where its own is exact."""
    own = tokenizer.decoder
    if own is None:
        # Without one, the library puts spaces between tokens.
        kinds = component_kinds(tokenizer.pre_tokenizer, "pretokenizers")
        names = [kind["type"] for kind in kinds]
        if "ByteLevel" in names:
            return decoders.ByteLevel()
        if "Metaspace" in names:
            return decoders.Metaspace()
        return decoders.Fuse()
    state = json.loads(own.__getstate__())
    if state["type"] == "WordPiece" and state.get("cleanup"):
        return decoders.WordPiece(prefix=state["prefix"], cleanup=False)
    return None


def _keeps_all_bytes(tokenizer: Tokenizer) -> bool:
    steps = component_kinds(tokenizer.pre_tokenizer, "pretokenizers")
    normalizers = component_kinds(tokenizer.normalizer, "normalizers")
    if not steps or steps[-1]["type"] != "ByteLevel" or type(tokenizer.model).__name__ != "BPE":
        return False
    if any(kind["type"] not in LOSSLESS_NORMALIZERS for kind in normalizers):
        return False
    for step in steps:
        if step["type"] not in LOSSLESS_PRE_TOKENIZERS or step.get("behavior") == "Removed":
            return False
    signs = [sign for byte, sign in enumerate(BYTE_SIGNS) if byte not in UNUSED_BYTES]
    return all(tokenizer.model.token_to_id(sign) is not None for sign in signs)
