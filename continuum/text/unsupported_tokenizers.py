"""Recognizes tokenizers in unsupported formats, and says how to convert them.

Supported are `tokenizer.json` of Hugging Face's `tokenizers` and `tokenizer.model` of Google's
`sentencepiece`. Other programs use the same names for other formats, so the content is checked.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from continuum.runs.file_names import escape_name
from continuum.sources.file_kinds import LOOK_BYTES, look_at, recognize
from continuum.sources.model_files import stand_in

MAX_PIECES = 200
"""Pieces of a SentencePiece model that are checked."""
PARTS = ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens")
"""Parts of a tokenizer.json."""
EMPTY_TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {}, "merges": []},
}
_TIKTOKEN_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) \d+\s*")
_RWKV_LINE = re.compile(rb"\d+ b?['\"].*['\"] \d+\s*")
_TIKTOKEN = (
    "a tiktoken vocabulary (base64 and a rank on each line, as Llama 3 and Qwen 1 publish it), "
    "not a SentencePiece model. It is not supported, because it lacks the splitting rule and the "
    "special tokens: use a repository of the same model that has tokenizer.json"
)
_TEKKEN = (
    "Mistral's Tekken vocabulary, for mistral-common. It is not supported: use a repository of the "
    'model that has tokenizer.json, or convert it: `python -c "from '
    "transformers.integrations.mistral import convert_tekken_tokenizer as c; "
    "c('tekken.json').save_pretrained('converted')\"`"
)
_RWKV = (
    "an RWKV World vocabulary (longest match), which neither `tokenizers` nor LitGPT supports; use "
    "another tokenizer, or train one (kind: train_tokenizer)"
)
_SAVE = (
    'convert it: `python -c "from transformers import AutoTokenizer as T; '
    "T.from_pretrained('FOLDER').save_pretrained('FOLDER')\"` writes tokenizer.json"
)


def vocabulary_problem(path: Path) -> str | None:
    """Why a file cannot be a vocabulary, judged by its first bytes; None if it may be one.

    The text follows the file's name: `is a Git-LFS pointer …`.
    """
    look = look_at(path)
    head = look.head
    if not head.strip():
        return "is empty; download the file again"
    if instead := stand_in(look):
        return f"is {instead}"
    if kind := recognize(look):
        return f"is {kind.noun}, not a tokenizer; use the tokenizer's own file"
    return _json_problem(head) if path.name == "tokenizer.json" else _model_problem(head)


def unsupported_tokenizer(names: Iterable[str], place: str) -> str | None:
    """The unsupported tokenizer that the file names indicate, and what to do; None if none.

    Args:
        place: The folder or repository, for the command that converts it.
    """
    names = sorted(names)
    if (pair := _pair(names)) is not None:
        return pair.replace("FOLDER", place)
    for pattern, words in _BY_NAME:
        found = [name for name in names if re.fullmatch(pattern, name)]
        if found:
            return f"{found[0]} is {words.replace('FOLDER', place)}"
    return None


def folder_problem(folder: Path) -> str:
    """The error of a folder without tokenizer.json and tokenizer.model.

    The text follows the folder's name.
    """
    missing = "tokenizer.json (or tokenizer.model) not found"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    unsupported = unsupported_tokenizer(map(escape_name, names), str(folder))
    if unsupported is None:
        return (
            f"{missing}; name a folder that contains a tokenizer in the format of Hugging Face or "
            "sentencepiece"
        )
    return f"{missing}: {unsupported}"


def json_problem(path: Path, content: bytes) -> str:
    """Why `tokenizers` cannot load a tokenizer.json; its own message names lines of its source."""
    if problem := vocabulary_problem(path):
        return problem
    try:
        document = json.loads(content)
    except ValueError as error:
        return f"is not valid JSON ({error}); download the file again"
    except RecursionError:
        return "is nested too deeply for a tokenizer; download the file again"
    if problem := _document_problem(document):
        return problem
    from tokenizers import __version__ as tokenizers_version

    part = next((part for part in PARTS if not _is_known(document, part)), None)
    where = f"its {part} ({_types_of(document[part])})" if part else "its content"
    return (
        f"contains something in {where} that tokenizers {tokenizers_version} does not support: "
        "most likely a newer version wrote it (pip install --upgrade tokenizers), or the file was "
        "edited"
    )


def _is_known(document: dict[str, Any], part: str) -> bool:
    """True if the library loads an otherwise empty tokenizer with this part."""
    from tokenizers import Tokenizer

    value = document.get(part)
    if value is None or value == []:
        return True
    try:
        Tokenizer.from_str(json.dumps({**EMPTY_TOKENIZER, part: value}))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return False
    return True


def _types_of(part: Any) -> str:
    if isinstance(part, list):
        return f"{len(part):,} entries"
    if not isinstance(part, dict):
        return repr(part)[:40]
    inner = [item for value in part.values() if isinstance(value, list) for item in value[:20]]
    found = [item.get("type") for item in (part, *inner) if isinstance(item, dict)]
    return ", ".join(str(name) for name in found if name) or "no type"


def _document_problem(document: Any) -> str | None:
    if not isinstance(document, dict):
        return f"contains a JSON {type(document).__name__}, not a tokenizer"
    if isinstance(document.get("model"), dict):
        return None
    if "vocab" in document and "config" in document:
        return f"is {_TEKKEN}"
    if "class_name" in document and "config" in document:
        return "is a Keras tokenizer, which cannot decode text; it is not supported"
    if {"bpe_ranks", "pat_str"} & document.keys():
        return "is a tiktoken encoding in JSON; use the tokenizer.json of the model's repository"
    if "bos_token" in document or "tokenizer_class" in document:
        return "is a renamed tokenizer_config.json; the vocabulary is missing"
    if document and all(isinstance(value, int) for value in document.values()):
        return (
            "is only a vocabulary (a renamed vocab.json) without tokenization rules; use the "
            "tokenizer.json of the model's repository"
        )
    keys = ", ".join(sorted(map(str, document))[:5]) or "nothing"
    return (
        f"is not a tokenizer of Hugging Face's `tokenizers`: the key `model` is missing (found: "
        f"{keys}); download the file again"
    )


def _json_problem(head: bytes) -> str | None:
    if is_sentencepiece(head):
        return "is a SentencePiece model; rename it to tokenizer.model"
    if _is_tiktoken(head):
        return f"is {_TIKTOKEN}"
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[", b'"')):
        return "is not valid JSON; download the file again"
    return None


def _model_problem(head: bytes) -> str | None:
    if is_sentencepiece(head):
        return None
    if _is_tiktoken(head):
        return f"is {_TIKTOKEN}"
    if _RWKV_LINE.match(head):
        return f"is {_RWKV}"
    if head.lstrip().startswith(b"{"):
        if b'"token_bytes"' in head or b'"default_vocab_size"' in head:
            return f"is {_TEKKEN}"
        return "is JSON, not a SentencePiece model; rename it to tokenizer.json if it is one"
    return "is not a valid SentencePiece model; download the file again"


def is_sentencepiece(head: bytes) -> bool:
    """True if the bytes start like a SentencePiece model: a protobuf message that lists pieces."""
    at, num_pieces = 0, 0
    while at < len(head) and num_pieces < MAX_PIECES:
        field = _field(head, at)
        if field is None or field[0] not in {0x0A, 0x12, 0x1A, 0x22, 0x2A}:
            return False
        tag, start, end = field
        if tag != 0x0A:
            break  # the end of the pieces
        if end > len(head):
            return num_pieces > 0 and len(head) == LOOK_BYTES
        if not _is_piece(head[start:end]):
            return False
        at, num_pieces = end, num_pieces + 1
    return num_pieces > 0


def _is_piece(message: bytes) -> bool:
    field = _field(message, 0)
    if field is None or field[0] != 0x0A or field[2] > len(message):
        return False
    try:
        message[field[1] : field[2]].decode()
    except UnicodeDecodeError:
        return False
    return field[2] == len(message) or message[field[2]] in {0x15, 0x18}


def _field(data: bytes, at: int) -> tuple[int, int, int] | None:
    """The tag of a length-delimited field, and the start and end of its content."""
    if at >= len(data):
        return None
    length = shift = 0
    for index in range(at + 1, min(at + 6, len(data))):
        length |= (data[index] & 0x7F) << shift
        shift += 7
        if data[index] < 0x80:
            return data[at], index + 1, index + 1 + length
    return None


def _is_tiktoken(head: bytes) -> bool:
    lines = head.splitlines()[:20]
    whole = lines[:-1] if len(lines) > 1 else lines
    found = [_TIKTOKEN_LINE.fullmatch(line) for line in whole]
    try:
        return bool(found) and all(m and base64.b64decode(m[1], validate=True) for m in found)
    except binascii.Error:
        return False


def _pair(names: list[str]) -> str | None:
    for vocabulary, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        if vocabulary in names and merges in names:
            remedy = _SAVE
            if vocabulary == "encoder.json":
                remedy = "the repository openai-community/gpt2 has its tokenizer.json"
            return f"{vocabulary} and {merges} are GPT-2's old format, not supported; {remedy}"
    return None


_BY_NAME = (
    (r"tekken.*\.json", _TEKKEN),
    (r"rwkv_vocab.*\.txt", _RWKV),
    (
        r".*\.model\.v\d+(m\d+)?",
        "a SentencePiece model named as in mistral-common, which is not supported: use the model's "
        "tokenizer.json, or copy it to tokenizer.model, which needs the sentencepiece package",
    ),
    (r".*\.tiktoken", _TIKTOKEN),
    (
        r"(spiece|spm|sentencepiece\.bpe|source|target)\.(model|spm)|.*\.spm",
        f"a SentencePiece model under another name, which is not supported; {_SAVE}",
    ),
    (
        r"vocab\.txt",
        "a WordPiece vocabulary (BERT), not supported in this form. It loses spaces and line ends, "
        "so a model cannot generate text with it; use a byte-level tokenizer",
    ),
    (r"vocab\.json", f"a vocabulary, but merges.txt is missing; {_SAVE}"),
    (r"merges\.txt", "half of a tokenizer: vocab.json is missing"),
    (r"encoder\.json", "half of GPT-2's old format: vocab.bpe is missing"),
    (r".*\.gguf", "a llama.cpp model; use the tokenizer of the original model"),
    (
        r"(tokenizer|meta|enc)\.(pkl|pickle|bin)",
        "a tokenizer in its program's own format (nanoGPT's, nanochat's or llama2.c's), which is "
        "not supported; train one with kind: train_tokenizer, or use a tokenizer.json",
    ),
    (
        r"tokenization_.*\.py",
        f"a tokenizer written in Python, which is not executed; if it has a fast version, {_SAVE}",
    ),
    (
        r"tokenizer_config\.json",
        "only the configuration of a tokenizer, the vocabulary is missing; get tokenizer.json from "
        "the same repository",
    ),
)
"""The first pattern that matches a name decides."""
