"""The tokens that mark where documents begin and end."""

import re
from dataclasses import dataclass
from typing import Literal

from continuum.errors import PreflightError
from continuum.runs.artifacts import TokenizerFiles

DocumentPolicy = Literal["bos", "eos", "both", "none"]
_CHAT = re.compile(
    r"im_(start|end|user|assistant|system|middle|sep)|(start|end)_header_id|eot_id|eom_id"
    r"|(start|end|begin)_?of_?(turn|role|message)|(end_of_)?(user|human|assistant|system)(_token)?"
    r"|inst|sys|system_prompt|available_tools|message|channel|role|turn|chat|prompter|chatbot"
    r"|(user|system|chatbot|assistant)_token|start_of_turn_token|end_of_turn_token|return|call"
)


@dataclass(frozen=True)
class Marks:
    """The tokens around each document; None where there is none."""

    bos_id: int | None
    eos_id: int | None


def document_marks(tokenizer: TokenizerFiles, policy: DocumentPolicy) -> Marks:
    """The ids that a document policy asks for.

    Raises:
        PreflightError: the tokenizer has no such token.
    """
    if missing := missing_mark(tokenizer, policy):
        raise PreflightError(missing)
    return Marks(
        tokenizer.bos_id if policy in ("bos", "both") else None,
        tokenizer.eos_id if policy in ("eos", "both") else None,
    )


def missing_mark(tokenizer: TokenizerFiles, policy: DocumentPolicy) -> str | None:
    """Why the tokenizer cannot serve a document policy; None when it can."""
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


def mark_warnings(tokenizer: TokenizerFiles, policy: DocumentPolicy) -> tuple[str, ...]:
    """What is legal about the marks of a dataset's documents, and most likely not meant."""
    name = tokenizer.label
    found = [
        f"{name}: its {mark.upper()} is {token}, a marker of chat turns, and every document "
        f"{verb} with it (document: {policy}); use document: {other}, or the base model's tokenizer"
        for mark, token, verb, other in (
            ("bos", tokenizer.bos_token, "begins", "eos"),
            ("eos", tokenizer.eos_token, "ends", "bos"),
        )
        if policy in (mark, "both") and token is not None and is_chat_marker(token)
    ]
    if tokenizer.eos_id is None:
        found.append(
            f"{name}: it has no EOS token, so no document's end is marked and a model does not "
            "learn to stop; name an eos_token in tokenizer_config.json if there is one"
        )
    if tokenizer.adds_bos and policy in ("eos", "none"):
        found.append(
            f"{name}: it begins every text with {tokenizer.bos_token} by itself, so its models "
            f"expect that, and no document begins with it (document: {policy}); use document: bos "
            "or both"
        )
    return tuple(found)


def is_chat_marker(token: str) -> bool:
    """True if a token's text is one by which chats mark their turns: `<|im_start|>`, `[INST]`."""
    # DeepSeek's markers have a wide bar and SentencePiece's space in them.
    name = token.strip("<>[]{}|/ \uff5c\u2581").replace("\u2581", "_").lower()
    return name != token.lower() and _CHAT.fullmatch(name) is not None
