"""A tokenizer folder: what it can produce, and whether it works.

The layout is LitGPT's: `tokenizer.json` (or sentencepiece's `tokenizer.model`), beside it
`tokenizer_config.json`, which names the BOS and EOS tokens, and `generation_config.json`, which may
give their ids. The rules for finding the ids are those of LitGPT's `Tokenizer`, so both agree; what
makes that class fail later makes this module refuse now.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from continuum.artifacts import TokenizerFiles
from continuum.errors import PreflightError
from continuum.files import sha256_file

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "generation_config.json",
)
"""The files LitGPT's `Tokenizer` reads; others may lie beside them."""

PROBE = (
    "The quick brown fox, 3.14 x 10^8 (really?) said: don't!\n\n"
    "\tdef f(x):\n\t\treturn x  # two  spaces\r\n"
    "Zażółć gęślą jaźń, naïve café, Straße, ελληνικά, кириллица\n"
    "日本語の文章 한국어 中文\n"
    "😀 👩\u200d👩\u200d👧 ∑ → end"
)
"""Text that a tokenizer fit for free text gives back: scripts, symbols, whitespace."""


def inspect_tokenizer(
    folder: Path, *, repo: str | None = None, commit: str | None = None
) -> TokenizerFiles:
    """What the tokenizer in `folder` is; `repo` and `commit` are passed through.

    Raises:
        PreflightError: files are missing, unreadable, or contradict each other.
    """
    vocabulary = vocabulary_file(folder)
    if vocabulary.name == "tokenizer.json":
        tokenizer = load_tokenizer_json(folder)
        num_ids = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        bos_id, eos_id = _special_ids(folder, tokenizer)
    else:
        _read_config(folder)
        processor = load_sentencepiece(folder)
        num_ids = int(processor.vocab_size())
        bos_id, eos_id = (_defined(processor.bos_id()), _defined(processor.eos_id()))
    if num_ids == 0:
        raise PreflightError(f"{vocabulary}: the vocabulary is empty; get the file again")
    for name, token_id in (("BOS", bos_id), ("EOS", eos_id)):
        if token_id is not None and not 0 <= token_id < num_ids:
            raise PreflightError(
                f"{folder}: the {name} token's id {token_id} is outside the vocabulary "
                f"(ids 0 to {num_ids - 1}); the files come from different tokenizers"
            )
    return TokenizerFiles(
        path=folder,
        num_ids=num_ids,
        vocabulary_digest=sha256_file(vocabulary),
        bos_id=bos_id,
        eos_id=eos_id,
        repo=repo,
        commit=commit,
    )


def check_tokenizer(folder: Path) -> tuple[str, ...]:
    """Encode a text of many scripts and decode it again; return what is worth a warning.

    A tokenizer that does not give this text back may suit a corpus of its own alphabet, such as
    DNA; `tokenize` compares with the corpus at hand.

    Raises:
        PreflightError: the tokenizer cannot be loaded, or encodes nothing.
    """
    from continuum.text.round_trip import load_round_trip
    from continuum.text.text_loss import Excerpt, compare

    round_trip = load_round_trip(folder)
    try:
        rows = round_trip.encode([PROBE])
    except PreflightError as error:
        if not round_trip.encodes_its_tokens():
            raise
        return (f"{error}; other texts can be tokenized",)
    (decoded,) = round_trip.decode(rows)
    difference = compare(Excerpt(PROBE, "", 1, 0), decoded, round_trip.unknown_text)
    if not difference.lost:
        return ()
    if not rows[0] and not round_trip.encodes_its_tokens():
        raise PreflightError(f"{folder}: the tokenizer makes no token of any text")
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in difference.lost.items())
    return (
        f"{folder}: the tokenizer does not give every text back: of {len(PROBE):,} characters of "
        f"many scripts it lost {kinds}; what it loses of a corpus, `tokenize` finds",
    )


def vocabulary_file(folder: Path) -> Path:
    """The file whose bytes decide the tokens; like in LitGPT, `tokenizer.json` goes first.

    Raises:
        PreflightError: the folder has none.
    """
    for name in ("tokenizer.json", "tokenizer.model"):
        if (folder / name).is_file():
            return folder / name
    raise PreflightError(
        f"{folder}: neither tokenizer.json nor tokenizer.model is there; "
        "name a folder that holds a tokenizer in Hugging Face's or sentencepiece's format"
    )


def load_tokenizer_json(folder: Path) -> Tokenizer:
    """The Hugging Face tokenizer, without the truncation and padding its file may ask for.

    Raises:
        PreflightError: the file is not a tokenizer this version of the library reads.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise PreflightError(
            f"{path}: the `tokenizers` library cannot read it ({error}); get the file again, or "
            "install the library's version that wrote it"
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
    try:
        package = importlib.import_module("sentencepiece")
    except ImportError:
        raise PreflightError(
            f"{path} needs the sentencepiece package: pip install sentencepiece, "
            "or use a tokenizer that has a tokenizer.json"
        ) from None
    try:
        return package.SentencePieceProcessor(model_file=str(path))
    except Exception as error:
        raise PreflightError(
            f"{path} is not a sentencepiece model ({error}); get the file again"
        ) from error


def _special_ids(folder: Path, tokenizer: Tokenizer) -> tuple[int | None, int | None]:
    config = _read_config(folder)
    ids = [_token_id(folder, tokenizer, config, name) for name in ("bos_token", "eos_token")]
    if None in ids and (folder / "generation_config.json").is_file():
        fallback = _read_object(folder / "generation_config.json")
        ids = [
            token_id if token_id is not None else _first_id(fallback.get(f"{name}_token_id"))
            for name, token_id in zip(("bos", "eos"), ids, strict=True)
        ]
    return ids[0], ids[1]


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    config = _read_object(path)
    if not isinstance(config.get("tokenizer_class"), str):
        raise PreflightError(
            f'{path}: the key "tokenizer_class" is missing, and LitGPT does not load such a '
            'folder; add it, for example "PreTrainedTokenizerFast"'
        )
    return config


def _token_id(folder: Path, tokenizer: Tokenizer, config: dict[str, Any], name: str) -> int | None:
    token = config.get(name)
    if isinstance(token, dict):
        token = token.get("content")
    if token is None:
        return None
    token_id = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if token_id is None:
        raise PreflightError(
            f"{folder / 'tokenizer_config.json'}: {name} is {token!r}, which tokenizer.json does "
            "not have; the two files come from different tokenizers"
        )
    return token_id


def _first_id(value: Any) -> int | None:
    # Chat models list several ends of text; the first is the document's.
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PreflightError(f"{path} is not readable JSON ({error}); get it again") from None
    if not isinstance(value, dict):
        raise PreflightError(f"{path} does not hold a JSON object; get it again")
    return value


def _defined(token_id: int) -> int | None:
    return int(token_id) if token_id >= 0 else None
