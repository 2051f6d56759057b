"""The tokens that mark where documents begin and end."""

from dataclasses import dataclass
from typing import Literal

from continuum.artifacts import TokenizerFiles
from continuum.errors import PreflightError

DocumentPolicy = Literal["bos", "eos", "both", "none"]


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
        f"{tokenizer.repo or tokenizer.path} defines none; use document: {' or '.join(possible)}"
    )
