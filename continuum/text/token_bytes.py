"""The bytes that each token id stands for, to show tokens one by one.

`tokenizer.decode` of a single id is of no use for that: it drops the space of a word's first token
and replaces parts of a character by U+FFFD.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from continuum.text.components import BYTE_SIGNS, component_kinds
from continuum.text.tokenizing import load_sentencepiece, load_tokenizer_json, vocabulary_file

METASPACE = "\u2581"
"""How SentencePiece writes a space."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A token of byte fallback, such as `<0xE2>`."""
BYTE_OF_SIGN = {sign: bytes([byte]) for byte, sign in enumerate(BYTE_SIGNS)}


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
        steps = component_kinds(tokenizer.decoder, "decoders")
        steps += component_kinds(tokenizer.pre_tokenizer, "pretokenizers")
        self._is_byte_level = any(step["type"] == "ByteLevel" for step in steps)

    def _load_sentencepiece(self, folder: Path) -> None:
        processor = load_sentencepiece(folder)
        ids = range(int(processor.vocab_size()))
        self._special = {i for i in ids if processor.is_control(i) or processor.is_unknown(i)}
        self._added = {i: str(processor.id_to_piece(i)) for i in self._special}
        self._piece = processor.id_to_piece
        self._is_byte_level = False

    def _find(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        piece = self._piece(token_id)
        if piece is None:
            return f"<id {token_id}>".encode()
        if self._is_byte_level:
            return b"".join(BYTE_OF_SIGN.get(char, char.encode()) for char in piece)
        if match := BYTE_TOKEN.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return str(piece).replace(METASPACE, " ").encode()
