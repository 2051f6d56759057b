"""The BOS and EOS of a tokenizer's folder, as `transformers` reads them, and what is unusual there.

`tokenizer_config.json` goes first, then `special_tokens_map.json` (which `transformers` reads where
the config has no `added_tokens_decoder`), then the ids of `generation_config.json`, as in LitGPT.
LitGPT reads the first and the last alone; where that makes a difference, a remark says so.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from continuum.errors import PreflightError

CONFIG, MAP = "tokenizer_config.json", "special_tokens_map.json"
ADDED, GENERATION = "added_tokens.json", "generation_config.json"
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that mark a text's ends."""

    bos_id: int | None
    eos_id: int | None
    adds_bos: bool
    """Whether the tokenizer itself begins every text with the BOS."""
    remarks: tuple[str, ...]
    """What is unusual, in sentences that go on after the tokenizer's name."""


def read_special_tokens(folder: Path, tokenizer: Tokenizer) -> SpecialTokens:
    """What the files beside `tokenizer.json` say of its special tokens.

    Raises:
        PreflightError: they contradict it, or cannot be read.
    """
    reading = _Reading(folder, tokenizer)
    bos_id, eos_id = reading.token_id("bos"), reading.token_id("eos")
    adds_bos = reading.adds_bos(bos_id)
    return SpecialTokens(bos_id, eos_id, adds_bos, tuple(reading.remarks))


def read_config(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`; empty where there is none.

    Raises:
        PreflightError: it is no object, or LitGPT does not load it.
    """
    path = folder / CONFIG
    if not path.is_file():
        return {}
    config = _read_object(path)
    if not isinstance(config.get("tokenizer_class"), str):
        raise PreflightError(
            f'{path}: the key "tokenizer_class" is missing, and LitGPT does not load such a '
            'folder; add it, for example "PreTrainedTokenizerFast"'
        )
    return config


class _Reading:
    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._config = read_config(folder)
        self._added = _added_tokens(folder, self._config)
        self.remarks = list(self._missing_tokens())

    def token_id(self, name: str) -> int | None:
        """The id of `bos` or `eos`; None where there is none."""
        key = f"{name}_token"
        token = _text_of(self._config.get(key), self._folder / CONFIG, key)
        if token == "":
            self.remarks.append(
                f"{key} is empty in {CONFIG}: read as no {name.upper()}, as transformers reads it; "
                "LitGPT's own commands do not load such a folder, null is right there"
            )
            return None
        mapped = self._mapped(key, is_needed=token is None)
        if token is None and mapped and "added_tokens_decoder" in self._config:
            self.remarks.append(
                f"{MAP} alone names a {name.upper()}, {mapped}, and is not used: transformers does "
                f"not read it beside the added_tokens_decoder of {CONFIG}; state {key} there"
            )
        elif token is None and mapped:
            self.remarks.append(
                f"the {name.upper()} {mapped} stands in {MAP} alone, where transformers reads it "
                f"and LitGPT's own commands do not; state {key} in {CONFIG} for both"
            )
            token = mapped
        elif token and mapped and token != mapped:
            self.remarks.append(
                f"{key} is {token} in {CONFIG}, which is used, and {mapped} in {MAP}; correct one"
            )
        return self._generation_id(name) if token is None else self._id_of(token, key)

    def adds_bos(self, bos_id: int | None) -> bool:
        """Whether texts begin with the BOS unless asked otherwise."""
        said = self._config.get("add_bos_token")
        if not isinstance(said, bool):
            first = self._tokenizer.encode("a").ids[:1]
            return bos_id is not None and first == [bos_id]
        if said and bos_id is None:
            self.remarks.append(
                f"add_bos_token is true in {CONFIG} and there is no BOS: none is added here, and "
                "LitGPT's own commands fail on it; name a bos_token, or say false"
            )
        return said and bos_id is not None

    def _id_of(self, token: str, key: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is not None:
            return token_id
        if token in self._added:
            raise PreflightError(
                f"{self._folder}: {key} is {token!r}, which {self._added[token]} adds and "
                f"tokenizer.json lacks; {_save(self._folder)}"
            )
        raise PreflightError(
            f"{self._folder / CONFIG}: {key} is {token!r}, which tokenizer.json does "
            "not have; the two files come from different tokenizers"
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
                f"{self._added[missing[0]]} adds {len(missing):,} token(s) that tokenizer.json "
                f"lacks ({', '.join(missing[:NUM_EXAMPLES])}{more}): to transformers each is one "
                f"token, here and in LitGPT ordinary text; {_save(self._folder)}"
            )


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens that `transformers` adds when it loads the folder, and the file that says so."""
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
    """A token that is written as its text, or as an object with its `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    if text is not None and not isinstance(text, str):
        raise PreflightError(f"{path}: {key} is {token!r}, which is no token's text; correct it")
    return text


def _save(folder: Path) -> str:
    return (
        'transformers writes one that has them: `python -c "from transformers import '
        f"AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\"`"
    )


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
