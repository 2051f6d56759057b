"""A tokenizer folder: what it can produce, and whether it works.

The layout is LitGPT's: `tokenizer.json` (or sentencepiece's `tokenizer.model`), beside it
`tokenizer_config.json`, which names the BOS and EOS tokens, and others, see `special_tokens`. What
makes LitGPT's `Tokenizer` fail later makes this module refuse now, or is told.
"""

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers import __version__ as tokenizers_version

from continuum.artifacts import VOCABULARY_FILES, TokenizerFiles
from continuum.errors import PreflightError
from continuum.files import sha256_file
from continuum.text.foreign_tokenizers import (
    folder_problem,
    json_document_problem,
    vocabulary_problem,
)
from continuum.text.special_tokens import SpecialTokens, read_config, read_special_tokens

PARTS = ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens")
"""Of a tokenizer.json."""
EMPTY_TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {}, "merges": []},
}


def inspect_tokenizer(
    folder: Path,
    *,
    repo: str | None = None,
    commit: str | None = None,
    source: str | None = None,
) -> TokenizerFiles:
    """What the tokenizer in `folder` is; `repo`, `commit` and `source` are passed through.

    Raises:
        PreflightError: files are missing, unreadable, or contradict each other.
    """
    vocabulary = vocabulary_file(folder)
    if vocabulary.name == "tokenizer.json":
        tokenizer = load_tokenizer_json(folder)
        num_ids = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        special = read_special_tokens(folder, tokenizer)
        text_of: Callable[[int], str | None] = tokenizer.id_to_token
    else:
        config = read_config(folder)
        processor = load_sentencepiece(folder)
        num_ids = int(processor.vocab_size())
        bos_id, eos_id = (_defined(processor.bos_id()), _defined(processor.eos_id()))
        adds_bos = bos_id is not None and config.get("add_bos_token") is True
        special = SpecialTokens(bos_id, eos_id, adds_bos, ())
        text_of = processor.id_to_piece
    if num_ids == 0:
        raise PreflightError(f"{vocabulary}: the vocabulary is empty; get the file again")
    for name, token_id in (("BOS", special.bos_id), ("EOS", special.eos_id)):
        if token_id is not None and not 0 <= token_id < num_ids:
            raise PreflightError(
                f"{folder}: the {name} token's id {token_id} is outside the vocabulary "
                f"(ids 0 to {num_ids - 1}); the files come from different tokenizers"
            )
    return TokenizerFiles(
        path=folder,
        num_ids=num_ids,
        vocabulary_digest=sha256_file(vocabulary),
        bos_id=special.bos_id,
        eos_id=special.eos_id,
        repo=repo,
        commit=commit,
        source=source,
        bos_token=text_of(special.bos_id) if special.bos_id is not None else None,
        eos_token=text_of(special.eos_id) if special.eos_id is not None else None,
        adds_bos=special.adds_bos,
        remarks=tuple(r.replace(str(folder), repo or source or "FOLDER") for r in special.remarks),
    )


def vocabulary_file(folder: Path) -> Path:
    """The file whose bytes decide the tokens; like in LitGPT, `tokenizer.json` goes first.

    Raises:
        PreflightError: the folder has none.
    """
    for name in VOCABULARY_FILES:
        if (folder / name).is_file():
            return folder / name
    raise PreflightError(f"{folder}: {folder_problem(folder)}")


@contextmanager
def called(name: str, folder: Path) -> Iterator[None]:
    """Let errors about a tokenizer call its folder as the user does.

    Raises:
        PreflightError: what was raised, with `name` where the folder's path stood.
    """
    try:
        yield
    except PreflightError as error:
        raise PreflightError(str(error).replace(str(folder), name)) from error


def load_tokenizer_json(folder: Path) -> Tokenizer:
    """The Hugging Face tokenizer, without the truncation and padding its file may ask for.

    Raises:
        PreflightError: the file is not a tokenizer this version of the library reads.
    """
    path = folder / "tokenizer.json"
    content = path.read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a bare Exception, or a panic of Rust, which is none
        raise PreflightError(
            f"{path}: the `tokenizers` library cannot read it: it {_why_not_loaded(path, content)}"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_sentencepiece(folder: Path) -> Any:
    """The `SentencePieceProcessor` of `tokenizer.model`.

    Raises:
        PreflightError: the package is not installed, or the file is not a model.
    """
    path = folder / "tokenizer.model"
    if problem := vocabulary_problem(path):
        raise PreflightError(f"{path} {problem}")
    try:
        package = importlib.import_module("sentencepiece")
    except ImportError:
        raise PreflightError(
            f"{path} is a SentencePiece model and needs that package: pip install sentencepiece, "
            "or use a tokenizer that has a tokenizer.json"
        ) from None
    try:
        return package.SentencePieceProcessor(model_proto=path.read_bytes())
    except Exception as error:
        raise PreflightError(
            f"{path} is not a whole sentencepiece model; get the file again"
        ) from error


def _why_not_loaded(path: Path, content: bytes) -> str:
    """Why a tokenizer.json was refused; the library names lines of its own code."""
    if problem := vocabulary_problem(path):
        return problem
    try:
        document = json.loads(content)
    except ValueError as error:
        return f"is not whole JSON ({error}); get the file again"
    except RecursionError:
        return "is nested too deeply to be a tokenizer; get the file again"
    if problem := json_document_problem(document):
        return problem
    part = next((part for part in PARTS if not _is_known(document, part)), None)
    where = f"its {part} ({_types_of(document[part])})" if part else "its content"
    return (
        f"has something in {where} that version {tokenizers_version} does not know: most likely a "
        "newer version wrote it (pip install --upgrade tokenizers), or the file was edited"
    )


def _is_known(document: dict[str, Any], part: str) -> bool:
    """Whether the library reads one part of a tokenizer, in an otherwise empty one."""
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


def _defined(token_id: int) -> int | None:
    return int(token_id) if token_id >= 0 else None
