"""The BOS and EOS of a tokenizer's folder, and which of them surround each document.

They are read as `transformers` reads them: from `tokenizer_config.json`, then from
`special_tokens_map.json` (only if the config has no `added_tokens_decoder`), then, as in LitGPT,
the ids of `generation_config.json`. LitGPT reads only the first and the last; where that makes a
difference, a remark reports it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from continuum.errors import PreflightError
from continuum.formatting import plural
from continuum.runs.artifacts import TokenizerFiles

if TYPE_CHECKING:  # a plan only needs the document policies, and this import takes a while
    from tokenizers import Tokenizer

DocumentPolicy = Literal["bos", "eos", "both", "none"]
CONFIG, MAP = "tokenizer_config.json", "special_tokens_map.json"
ADDED, GENERATION = "added_tokens.json", "generation_config.json"
NUM_EXAMPLES = 3
_CHAT = re.compile(
    r"im_(start|end|user|assistant|system|middle|sep)|(start|end)_header_id|eot_id|eom_id"
    r"|(start|end|begin)_?of_?(turn|role|message)|(end_of_)?(user|human|assistant|system)(_token)?"
    r"|inst|sys|system_prompt|available_tools|message|channel|role|turn|chat|prompter|chatbot"
    r"|(user|system|chatbot|assistant)_token|start_of_turn_token|end_of_turn_token|return|call"
)


@dataclass(frozen=True)
class SpecialTokens:
    """The BOS and EOS that a tokenizer's files define."""

    bos_id: int | None
    eos_id: int | None
    adds_bos: bool
    """True if the tokenizer itself starts every text with the BOS."""
    remarks: tuple[str, ...]
    """Unusual findings, as sentences to append to the tokenizer's name."""


@dataclass(frozen=True)
class DocumentTokens:
    """The tokens written around each document."""

    bos_id: int | None
    eos_id: int | None


def document_tokens(tokenizer: TokenizerFiles, policy: DocumentPolicy) -> DocumentTokens:
    """The ids that a document policy asks for.

    Raises:
        PreflightError: the tokenizer has no such token.
    """
    if missing := missing_token(tokenizer, policy):
        raise PreflightError(missing)
    return DocumentTokens(
        tokenizer.bos_id if policy in ("bos", "both") else None,
        tokenizer.eos_id if policy in ("eos", "both") else None,
    )


def missing_token(tokenizer: TokenizerFiles, policy: DocumentPolicy) -> str | None:
    """The error of a tokenizer that lacks a token of the policy; None if it lacks none."""
    known = {"bos": tokenizer.bos_id is not None, "eos": tokenizer.eos_id is not None}
    needed = ("bos", "eos") if policy == "both" else () if policy == "none" else (policy,)
    lacking = [name for name in needed if not known[name]]
    if not lacking:
        return None
    possible = [name for name in ("bos", "eos") if known[name]] + ["none"]
    return (
        f"document: {policy} needs the tokenizer's {' and '.join(lacking).upper()} token, but "
        f"{tokenizer.label} defines none; use document: {' or '.join(possible)}"
    )


def policy_warnings(tokenizer: TokenizerFiles, policy: DocumentPolicy) -> tuple[str, ...]:
    """Warnings about a document policy that is valid but probably not intended."""
    name = tokenizer.label
    found = [
        f"{name}: its {special.upper()} is {token}, a chat-turn marker, and every document "
        f"{verb} with it (document: {policy}); use document: {other}, or the base model's tokenizer"
        for special, token, verb, other in (
            ("bos", tokenizer.bos_token, "starts", "eos"),
            ("eos", tokenizer.eos_token, "ends", "bos"),
        )
        if policy in (special, "both") and token is not None and is_chat_marker(token)
    ]
    if tokenizer.eos_id is None:
        found.append(
            f"{name}: it has no EOS token, so document ends are not marked and a model does not "
            "learn to stop; set eos_token in tokenizer_config.json if there is one"
        )
    if tokenizer.adds_bos and policy in ("eos", "none"):
        found.append(
            f"{name}: it adds {tokenizer.bos_token} to the start of every text, so its models "
            f"expect it, but documents do not start with it (document: {policy}); use document: "
            "bos or both"
        )
    return tuple(found)


def is_chat_marker(token: str) -> bool:
    """True if the token marks a chat turn, such as `<|im_start|>` or `[INST]`."""
    # DeepSeek's markers have a wide bar and SentencePiece's space in them.
    name = token.strip("<>[]{}|/ \uff5c\u2581").replace("\u2581", "_").lower()
    return name != token.lower() and _CHAT.fullmatch(name) is not None


def read_special_tokens(folder: Path, tokenizer: "Tokenizer") -> SpecialTokens:
    """The special tokens that the files beside `tokenizer.json` define.

    Raises:
        PreflightError: the files contradict `tokenizer.json`, or cannot be read.
    """
    reading = _Reading(folder, tokenizer)
    bos_id, eos_id = reading.token_id("bos"), reading.token_id("eos")
    adds_bos = reading.adds_bos(bos_id)
    return SpecialTokens(bos_id, eos_id, adds_bos, tuple(reading.remarks))


def read_config(folder: Path) -> dict[str, Any]:
    """The content of `tokenizer_config.json`; empty if the file does not exist.

    Raises:
        PreflightError: it is not a JSON object, or LitGPT cannot load it.
    """
    path = folder / CONFIG
    if not path.is_file():
        return {}
    config = _read_object(path)
    if not isinstance(config.get("tokenizer_class"), str):
        raise PreflightError(
            f'{path}: the key "tokenizer_class" is missing, and LitGPT cannot load the folder '
            'without it; add it, for example "PreTrainedTokenizerFast"'
        )
    return config


class _Reading:
    def __init__(self, folder: Path, tokenizer: "Tokenizer") -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._config = read_config(folder)
        self._added = _added_tokens(folder, self._config)
        self.remarks = list(self._missing_tokens())

    def token_id(self, name: str) -> int | None:
        """The id of `bos` or `eos`; None if there is none."""
        key = f"{name}_token"
        token = _text_of(self._config.get(key), self._folder / CONFIG, key)
        if token == "":
            self.remarks.append(
                f"{key} is empty in {CONFIG}, so there is no {name.upper()}, as in transformers; "
                "LitGPT's own commands cannot load such a folder: write null instead"
            )
            return None
        mapped = self._mapped(key, is_needed=token is None)
        if token is None and mapped and "added_tokens_decoder" in self._config:
            self.remarks.append(
                f"the {name.upper()} {mapped} is only in {MAP} and is ignored: transformers does "
                f"not read that file if {CONFIG} has an added_tokens_decoder; set {key} there"
            )
        elif token is None and mapped:
            self.remarks.append(
                f"the {name.upper()} {mapped} is only in {MAP}, which transformers reads and "
                f"LitGPT's own commands do not; set {key} in {CONFIG} for both"
            )
            token = mapped
        elif token and mapped and token != mapped:
            self.remarks.append(
                f"{key} is {token} in {CONFIG} (used) but {mapped} in {MAP}; correct one of them"
            )
        return self._generation_id(name) if token is None else self._id_of(token, key)

    def adds_bos(self, bos_id: int | None) -> bool:
        """True if the tokenizer adds the BOS by default."""
        stated = self._config.get("add_bos_token")
        if not isinstance(stated, bool):
            first = self._tokenizer.encode("a").ids[:1]
            return bos_id is not None and first == [bos_id]
        if stated and bos_id is None:
            self.remarks.append(
                f"add_bos_token is true in {CONFIG} but there is no BOS: none is added here, and "
                "LitGPT's own commands fail; set bos_token, or set add_bos_token to false"
            )
        return stated and bos_id is not None

    def _id_of(self, token: str, key: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is not None:
            return token_id
        if token in self._added:
            raise PreflightError(
                f"{self._folder}: {key} is {token!r}, which is in {self._added[token]} but not in "
                f"tokenizer.json; {_save(self._folder)}"
            )
        raise PreflightError(
            f"{self._folder / CONFIG}: {key} is {token!r}, which is not in tokenizer.json; "
            "the two files come from different tokenizers"
        )

    def _mapped(self, key: str, *, is_needed: bool) -> str | None:
        path = self._folder / MAP
        if not path.is_file():
            return None
        try:
            return _text_of(_read_object(path).get(key), path, key) or None
        except PreflightError:
            if is_needed:
                raise
            return None

    def _generation_id(self, name: str) -> int | None:
        path = self._folder / GENERATION
        return _first_id(_read_object(path).get(f"{name}_token_id")) if path.is_file() else None

    def _missing_tokens(self) -> Iterator[str]:
        known = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        missing = [token for token in self._added if token not in known]
        if missing:
            more = ", …" if len(missing) > NUM_EXAMPLES else ""
            yield (
                f"{self._added[missing[0]]} adds {plural(len(missing), 'token')} missing from "
                f"tokenizer.json ({', '.join(missing[:NUM_EXAMPLES])}{more}): in transformers each "
                f"is one token, here and in LitGPT it is ordinary text; {_save(self._folder)}"
            )


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens that `transformers` adds when it loads the folder, with the file that has them."""
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        texts = (
            token.get("content") if isinstance(token, dict) else token for token in decoder.values()
        )
        return {text: CONFIG for text in texts if isinstance(text, str) and text}
    if (folder / ADDED).is_file():
        return {text: ADDED for text in _read_object(folder / ADDED) if text}
    return {}


def _text_of(token: Any, path: Path, key: str) -> str | None:
    """The text of a token that is written as a string or as an object with `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    if text is not None and not isinstance(text, str):
        raise PreflightError(f"{path}: {key} must be a string, not {token!r}; correct it")
    return text


def _save(folder: Path) -> str:
    return (
        'write a complete tokenizer.json with transformers: `python -c "from transformers import '
        f"AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\"`"
    )


def _first_id(value: Any) -> int | None:
    # Chat models list several EOS ids; the first one ends a document.
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PreflightError(f"{path}: invalid JSON ({error}); download it again") from None
    if not isinstance(value, dict):
        raise PreflightError(f"{path}: not a JSON object; download it again")
    return value
