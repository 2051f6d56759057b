"""Loads a tokenizer: text to ids, ids to text as exactly as possible, and ids to bytes.

A folder has LitGPT's layout: `tokenizer.json` (or sentencepiece's `tokenizer.model`), and beside it
`tokenizer_config.json`, which names the BOS and EOS tokens, and others, see `special_tokens`.
Decoders made for reading drop or add spaces around punctuation; here they must not, because their
output is compared with the text. Decoding single ids cannot show tokens one by one either: it drops
the space before a word and replaces partial characters by U+FFFD.
"""

import importlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders

from continuum.cpus import num_processors
from continuum.errors import PreflightError
from continuum.runs.artifacts import VOCABULARY_FILES
from continuum.text.safe_places import BYTE_SIGNS, SafePlaces, UncuttableError, component_kinds
from continuum.text.special_tokens import SpecialTokens, read_config, read_special_tokens
from continuum.text.unsupported_tokenizers import folder_problem, json_problem, vocabulary_problem

NUM_TRIED_TOKENS = 1000
UNUSED_BYTES = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))
"""Bytes that never occur in UTF-8."""
LOSSLESS_NORMALIZERS = frozenset(("NFC", "NFD"))
LOSSLESS_PRE_TOKENIZERS = frozenset(("ByteLevel", "Digits", "Split"))
METASPACE = "\u2581"
"""SentencePiece's space."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A byte-fallback token, such as `<0xE2>`."""
BYTE_OF_SIGN = {sign: bytes([byte]) for byte, sign in enumerate(BYTE_SIGNS)}


class LoadedTokenizer(ABC):
    """The interface of both libraries."""

    library: str
    added: Mapping[int, str]
    """Texts that are one token wherever they occur."""
    special_ids: frozenset[int]
    """Ids of special tokens, such as the BOS."""
    unknown_id: int | None
    """The id of unknown tokens."""
    unknown_text = ""
    """Its decoded text; empty if there is none."""
    is_literal = False
    """True if that text in a document becomes that id."""
    keeps_all_bytes = False
    """True if no character can be lost, because all bytes are tokens."""
    reads_words = False
    """True if the word around a character decides whether it is known."""
    is_byte_level = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bytes: dict[int, bytes] = {}

    @property
    @abstractmethod
    def num_ids(self) -> int:
        """The largest id plus one."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode each text, without special tokens at its ends."""

    @abstractmethod
    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Decode each row of ids."""

    @abstractmethod
    def piece(self, token_id: int) -> str | None:
        """A token as written in the vocabulary."""

    @abstractmethod
    def special_tokens(self) -> SpecialTokens:
        """The BOS and EOS that the folder's files define."""

    @abstractmethod
    def safe_places(self) -> SafePlaces:
        """The places where texts may be cut.

        Raises:
            UncuttableError: no place can be proved safe.
        """

    def encodes_its_tokens(self) -> bool:
        """False if it produces no tokens for any text."""
        return True

    def bytes_of(self, token_id: int) -> bytes:
        """The UTF-8 bytes of a token, which may be part of a character."""
        found = self._bytes.get(token_id)
        if found is None:
            found = self._bytes[token_id] = self._find_bytes(token_id)
        return found

    def _find_bytes(self, token_id: int) -> bytes:
        if token_id in self.added:
            return self.added[token_id].encode()
        piece = self.piece(token_id)
        if piece is None:
            return f"<id {token_id}>".encode()
        if self.is_byte_level:
            return b"".join(BYTE_OF_SIGN.get(char, char.encode()) for char in piece)
        if match := BYTE_TOKEN.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return piece.replace(METASPACE, " ").encode()


def vocabulary_file(folder: Path) -> Path:
    """The file that defines the tokens; as in LitGPT, `tokenizer.json` comes first.

    Raises:
        PreflightError: the folder has none.
    """
    for name in VOCABULARY_FILES:
        if (folder / name).is_file():
            return folder / name
    raise PreflightError(f"{folder}: {folder_problem(folder)}")


def load_tokenizer(folder: Path) -> LoadedTokenizer:
    """The tokenizer in `folder`.

    Raises:
        PreflightError: it cannot be loaded.
    """
    has_json = vocabulary_file(folder).name == "tokenizer.json"
    return HuggingFaceTokenizer(folder) if has_json else SentencePieceTokenizer(folder)


class HuggingFaceTokenizer(LoadedTokenizer):
    """Hugging Face `tokenizers`, without truncation or padding."""

    library = "tokenizers"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tokenizer = tokenizer = _load_json(folder / "tokenizer.json")
        added = tokenizer.get_added_tokens_decoder()
        self.added = {token_id: token.content for token_id, token in added.items()}
        self.special_ids = frozenset(it for it, token in added.items() if token.special)
        model = tokenizer.model
        name = type(model).__name__
        unknown = getattr(model, "unk_token", None)
        self.unknown_id = tokenizer.token_to_id(unknown) if isinstance(unknown, str) else None
        if name == "Unigram":
            self.unknown_id = json.loads(model.__getstate__()).get("unk_id")
        if self.unknown_id is not None:
            self.unknown_text = tokenizer.id_to_token(self.unknown_id) or ""
        self.is_literal = self.unknown_text in self.added.values()
        self.reads_words = name in ("WordLevel", "WordPiece")
        steps = component_kinds(tokenizer.pre_tokenizer, "pretokenizers")
        decoding = component_kinds(tokenizer.decoder, "decoders")
        self.is_byte_level = any(step["type"] == "ByteLevel" for step in (*steps, *decoding))
        self.keeps_all_bytes = _keeps_all_bytes(tokenizer, steps)
        self._set_exact_decoder([step["type"] for step in steps])

    @property
    def num_ids(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:
            if type(error) is not Exception:  # the library raises bare Exceptions
                raise
            raise PreflightError(
                f"{self.folder}: the tokenizer cannot encode this text ({error}); "
                "use one that has an unknown token"
            ) from error
        return [encoding.ids for encoding in encodings]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return list(self._tokenizer.decode_batch(list(rows), skip_special_tokens=False))

    def piece(self, token_id: int) -> str | None:
        return self._tokenizer.id_to_token(token_id)

    def special_tokens(self) -> SpecialTokens:
        return read_special_tokens(self.folder, self._tokenizer)

    def safe_places(self) -> SafePlaces:
        return SafePlaces(self._tokenizer)

    def encodes_its_tokens(self) -> bool:
        for text in islice(self._tokenizer.get_vocab(with_added_tokens=False), NUM_TRIED_TOKENS):
            try:
                if any(self.encode([text])):
                    return True
            except PreflightError:
                continue
        return False

    def _set_exact_decoder(self, pre_tokenizers: Sequence[str]) -> None:
        own = self._tokenizer.decoder
        if own is None:
            # Without one, the library puts spaces between tokens.
            is_spaced = "ByteLevel" not in pre_tokenizers and "Metaspace" in pre_tokenizers
            other = decoders.ByteLevel() if "ByteLevel" in pre_tokenizers else decoders.Fuse()
            self._tokenizer.decoder = decoders.Metaspace() if is_spaced else other
            return
        state = json.loads(own.__getstate__())
        if state["type"] == "WordPiece" and state.get("cleanup"):
            self._tokenizer.decoder = decoders.WordPiece(prefix=state["prefix"], cleanup=False)


class SentencePieceTokenizer(LoadedTokenizer):
    """Google's `sentencepiece`."""

    library = "sentencepiece"
    added: Mapping[int, str] = {}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._processor = processor = _load_sentencepiece(folder / "tokenizer.model")
        self.special_ids = frozenset(
            token_id
            for token_id in range(self.num_ids)
            if processor.is_control(token_id) or processor.is_unknown(token_id)
        )
        self.unknown_id = _defined(processor.unk_id())
        if self.unknown_id is not None:
            self.unknown_text = processor.decode([self.unknown_id])

    @property
    def num_ids(self) -> int:
        return int(self._processor.vocab_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = self._processor.encode(list(texts), num_threads=num_processors())
        return rows

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [str(self._processor.decode(list(row))) for row in rows]

    def piece(self, token_id: int) -> str | None:
        return str(self._processor.id_to_piece(token_id))

    def special_tokens(self) -> SpecialTokens:
        config = read_config(self.folder)
        bos_id, eos_id = _defined(self._processor.bos_id()), _defined(self._processor.eos_id())
        adds_bos = bos_id is not None and config.get("add_bos_token") is True
        return SpecialTokens(bos_id, eos_id, adds_bos, ())

    def safe_places(self) -> SafePlaces:
        raise UncuttableError("sentencepiece, which treats the beginning of a text apart")


def _load_json(path: Path) -> Tokenizer:
    content = path.read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a bare Exception, or a Rust panic, which is not an Exception
        raise PreflightError(
            f"{path}: the `tokenizers` library cannot load the file: it "
            f"{json_problem(path, content)}"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_sentencepiece(path: Path) -> Any:
    if problem := vocabulary_problem(path):
        raise PreflightError(f"{path} {problem}")
    try:
        package = importlib.import_module("sentencepiece")
    except ImportError:
        raise PreflightError(
            f"{path} is a SentencePiece model and needs a package: pip install sentencepiece, "
            "or use a tokenizer that has a tokenizer.json"
        ) from None
    try:
        return package.SentencePieceProcessor(model_proto=path.read_bytes())
    except Exception as error:
        raise PreflightError(
            f"{path}: not a valid SentencePiece model; download the file again"
        ) from error


def _keeps_all_bytes(tokenizer: Tokenizer, steps: Sequence[Mapping[str, Any]]) -> bool:
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


def _defined(token_id: int) -> int | None:
    return int(token_id) if token_id >= 0 else None
