"""Tokenizers in formats that are not read here: what a file or a folder is, and how it converts.

What is read is `tokenizer.json` of Hugging Face's `tokenizers` and `tokenizer.model` of Google's
`sentencepiece`. Others use the same names for other things, so the content is looked at.
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
"""Of a SentencePiece model, that are looked at."""
PARTS = ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens")
"""Of a tokenizer.json."""
EMPTY_TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {}, "merges": []},
}
_TIKTOKEN_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) \d+\s*")
_RWKV_LINE = re.compile(rb"\d+ b?['\"].*['\"] \d+\s*")
_TIKTOKEN = (
    "a tiktoken vocabulary (base64 and a rank on each line, as Llama 3 and Qwen 1 publish it), "
    "not a SentencePiece model. It has neither its splitting rule nor its special tokens in it and "
    "is not supported: use the repository on the Hub that has tokenizer.json for the same model"
)
_TEKKEN = (
    "Mistral's Tekken vocabulary, for mistral-common. It is not supported: use a repository of the "
    'model that has tokenizer.json, or convert it: `python -c "from '
    "transformers.integrations.mistral import convert_tekken_tokenizer as c; "
    "c('tekken.json').save_pretrained('converted')\"`"
)
_RWKV = (
    "an RWKV World vocabulary, which is read by longest match. It is not supported: neither "
    "`tokenizers` nor LitGPT has that; use another tokenizer, or train one (kind: train_tokenizer)"
)
_SAVE = (
    'convert it: `python -c "from transformers import AutoTokenizer as T; '
    "T.from_pretrained('FOLDER').save_pretrained('FOLDER')\"` writes tokenizer.json"
)


def vocabulary_problem(path: Path) -> str | None:
    """Why a vocabulary file is none, by a look at its first bytes; None if it may be one.

    The sentence goes on after the file's name: `is a Git-LFS pointer …`.
    """
    look = look_at(path)
    head = look.head
    if not head.strip():
        return "is empty; get the file again"
    if instead := stand_in(look):
        return f"is {instead}"
    if kind := recognize(look):
        return f"is {kind.noun}, not a tokenizer; get the tokenizer's own file"
    return _json_problem(head) if path.name == "tokenizer.json" else _model_problem(head)


def foreign_tokenizer(names: Iterable[str], place: str) -> str | None:
    """What tokenizer a folder's file names speak of, and what to do; None if they say nothing.

    Args:
        place: The folder or the repository, for a command that converts it.
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
    """What is in a folder without tokenizer.json and tokenizer.model, and what to do.

    The sentence goes on after the folder's name.
    """
    missing = "neither tokenizer.json nor tokenizer.model is there"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    foreign = foreign_tokenizer(map(escape_name, names), str(folder))
    if foreign is None:
        return (
            f"{missing}; name a folder that holds a tokenizer in Hugging Face's or sentencepiece's "
            "format"
        )
    return f"{missing}: {foreign}"


def json_problem(path: Path, content: bytes) -> str:
    """Why `tokenizers` refused a tokenizer.json; the library names lines of its own code."""
    if problem := vocabulary_problem(path):
        return problem
    try:
        document = json.loads(content)
    except ValueError as error:
        return f"is not whole JSON ({error}); get the file again"
    except RecursionError:
        return "is nested too deeply to be a tokenizer; get the file again"
    if problem := _document_problem(document):
        return problem
    from tokenizers import __version__ as tokenizers_version

    part = next((part for part in PARTS if not _is_known(document, part)), None)
    where = f"its {part} ({_types_of(document[part])})" if part else "its content"
    return (
        f"has something in {where} that version {tokenizers_version} does not know: most likely a "
        "newer version wrote it (pip install --upgrade tokenizers), or the file was edited"
    )


def _is_known(document: dict[str, Any], part: str) -> bool:
    """Whether the library reads one part of a tokenizer, in an otherwise empty one."""
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
    """The names of a part's type and of those within it."""
    if isinstance(part, list):
        return f"{len(part):,} entries"
    if not isinstance(part, dict):
        return repr(part)[:40]
    inner = [item for value in part.values() if isinstance(value, list) for item in value[:20]]
    found = [item.get("type") for item in (part, *inner) if isinstance(item, dict)]
    return ", ".join(str(name) for name in found if name) or "of no type"


def _document_problem(document: Any) -> str | None:
    """Why the content of a tokenizer.json is not one of `tokenizers`; None if it may be."""
    if not isinstance(document, dict):
        return f"holds a JSON {type(document).__name__}, not a tokenizer"
    if isinstance(document.get("model"), dict):
        return None
    if "vocab" in document and "config" in document:
        return f"is {_TEKKEN}"
    if "class_name" in document and "config" in document:
        return "is a Keras tokenizer, which cannot give text back; it is not supported"
    if {"bpe_ranks", "pat_str"} & document.keys():
        return "is a tiktoken encoding in JSON; use the tokenizer.json of the model's repository"
    if "bos_token" in document or "tokenizer_class" in document:
        return "is a tokenizer_config.json under another name; the vocabulary is missing"
    if document and all(isinstance(value, int) for value in document.values()):
        return (
            "is a bare vocabulary (vocab.json under another name) without the rules that make "
            "tokens of text; get the tokenizer.json of the model's repository"
        )
    keys = ", ".join(sorted(map(str, document))[:5]) or "nothing"
    return (
        f"is not a tokenizer of Hugging Face's `tokenizers`: it has no `model` (it has {keys}); "
        "get the file again"
    )


def _json_problem(head: bytes) -> str | None:
    if is_sentencepiece(head):
        return "is a SentencePiece model; call it tokenizer.model"
    if _is_tiktoken(head):
        return f"is {_TIKTOKEN}"
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[", b'"')):
        return "is not JSON; get the file again"
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
        return "is JSON, not a SentencePiece model; call it tokenizer.json if it is one"
    return "is not a sentencepiece model; get the file again"


def is_sentencepiece(head: bytes) -> bool:
    """Whether bytes begin as a SentencePiece model does: a protobuf message that lists pieces."""
    at, num_pieces = 0, 0
    while at < len(head) and num_pieces < MAX_PIECES:
        field = _field(head, at)
        if field is None or field[0] not in {0x0A, 0x12, 0x1A, 0x22, 0x2A}:
            return False
        tag, start, end = field
        if tag != 0x0A:
            break  # what follows the pieces
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
    """The tag of a length-delimited field, and where its content begins and ends."""
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
    """A tokenizer whose vocabulary and merges are in two files."""
    for vocabulary, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        if vocabulary in names and merges in names:
            remedy = _SAVE
            if vocabulary == "encoder.json":
                remedy = "the repository openai-community/gpt2 has its tokenizer.json"
            return f"{vocabulary} and {merges} are GPT-2's older format, not supported; {remedy}"
    return None


_BY_NAME = (
    (r"tekken.*\.json", _TEKKEN),
    (r"rwkv_vocab.*\.txt", _RWKV),
    (
        r".*\.model\.v\d+(m\d+)?",
        "a SentencePiece model of Mistral's under mistral-common's name. Under that name it is not "
        "read: use the model's tokenizer.json, or copy it to tokenizer.model, which needs the "
        "sentencepiece package",
    ),
    (r".*\.tiktoken", _TIKTOKEN),
    (
        r"(spiece|spm|sentencepiece\.bpe|source|target)\.(model|spm)|.*\.spm",
        f"a SentencePiece model under another name, which is not read; {_SAVE}",
    ),
    (
        r"vocab\.txt",
        "a WordPiece vocabulary of BERT's family, not supported in this form. "
        "It does not give back spaces and line ends, so it suits no text that is generated; use a "
        "byte-level tokenizer",
    ),
    (r"vocab\.json", f"a vocabulary without merges.txt, which is not enough; {_SAVE}"),
    (r"merges\.txt", "one half of a tokenizer: vocab.json is missing"),
    (r"encoder\.json", "one half of GPT-2's older format: vocab.bpe is missing"),
    (r".*\.gguf", "a model of llama.cpp; get the tokenizer of the model it was made from"),
    (
        r"(tokenizer|meta|enc)\.(pkl|pickle|bin)",
        "a tokenizer in its program's own format (nanoGPT's, nanochat's or llama2.c's), which is "
        "not supported; train one with kind: train_tokenizer, or use a tokenizer.json",
    ),
    (
        r"tokenization_.*\.py",
        f"a tokenizer written in Python, which is not run here; if it has a fast version, {_SAVE}",
    ),
    (
        r"tokenizer_config\.json",
        "about a tokenizer, but its vocabulary is not there; get tokenizer.json, which lies beside "
        "it in the repository",
    ),
)
"""The first pattern that a name fits says what it is."""
