"""The bytes that each token id stands for, to show tokens one by one.

`tokenizer.decode` of a single id is of no use for that: it drops the space of a word's first token
and replaces parts of a character by U+FFFD.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from continuum.text.tokenizing import load_sentencepiece, load_tokenizer_json, vocabulary_file

METASPACE = "\u2581"
"""How SentencePiece writes a space."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A token of byte fallback, such as `<0xE2>`."""


class TokenBytes:
    """What the ids of one tokenizer stand for."""

    def __init__(self, folder: Path) -> None:
        """Load the tokenizer.

        Raises:
            PreflightError: it cannot be loaded.
        """
        if vocabulary_file(folder).name == "tokenizer.json":
            self._load_json(folder)
        else:
            self._load_sentencepiece(folder)
        self._known: dict[int, bytes] = {}

    def of(self, token_id: int) -> bytes:
        """The UTF-8 bytes of a token; for part of a character, part of its bytes."""
        found = self._known.get(token_id)
        if found is None:
            found = self._known[token_id] = self._find(token_id)
        return found

    def is_special(self, token_id: int) -> bool:
        """Whether it is a special token, such as BOS."""
        return token_id in self._special

    def join(self, ids: Sequence[int]) -> str:
        """The text of tokens in a row; bytes that are no UTF-8 become lone surrogates."""
        return b"".join(map(self.of, ids)).decode("utf-8", "surrogateescape")

    def _load_json(self, folder: Path) -> None:
        tokenizer = load_tokenizer_json(folder)
        added = tokenizer.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._special = {token_id for token_id, token in added.items() if token.special}
        self._piece = tokenizer.id_to_token
        # The decoder alone as JSON; `to_str` would write the vocabulary too.
        decoder = json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder else None
        self._alphabet = _byte_level_alphabet() if _is_byte_level(decoder) else None

    def _load_sentencepiece(self, folder: Path) -> None:
        processor = load_sentencepiece(folder)
        ids = range(int(processor.vocab_size()))
        self._special = {i for i in ids if processor.is_control(i) or processor.is_unknown(i)}
        self._added = {i: str(processor.id_to_piece(i)) for i in self._special}
        self._piece = processor.id_to_piece
        self._alphabet = None

    def _find(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        piece = self._piece(token_id)
        if piece is None:
            return f"<id {token_id}>".encode()
        if self._alphabet is not None:
            return bytes(byte for char in piece for byte in self._alphabet.get(char, char.encode()))
        if match := BYTE_TOKEN.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return str(piece).replace(METASPACE, " ").encode()


def _byte_level_alphabet() -> dict[str, bytes]:
    """Byte-level BPE's character of each byte, reversed.

    Source: `bytes_to_unicode` of GPT-2's encoder: printable characters of Latin-1 stand for
    themselves, the other bytes for characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    chars = {chr(byte): bytes([byte]) for byte in printable}
    return chars | {chr(0x100 + n): bytes([byte]) for n, byte in enumerate(others)}


def _is_byte_level(decoder: Any) -> bool:
    if not isinstance(decoder, dict):
        return False
    inner = decoder.get("decoders") or ()
    return decoder.get("type") == "ByteLevel" or any(map(_is_byte_level, inner))
