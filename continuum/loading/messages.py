"""Names of places and values in messages, as they are written in the user's file."""

import re
from collections.abc import Sequence
from typing import Any

from continuum.experiment.amounts import Amount
from continuum.loading.keys import KeyPath
from continuum.runs.redaction import without_secrets

MAX_SHOWN = 60
"""Characters of a value that are printed in a message."""
MAX_WRITTEN_OUT = 10**15
"""Smaller bounds are printed in full."""


def name_of(path: KeyPath) -> str:
    """Return a name for the value at a path: `lr`, `betas[0]`, `sources[2]`."""
    names = [number for number, part in enumerate(path) if isinstance(part, str)]
    if not names:
        return "the experiment"
    return str(path[names[-1]]) + "".join(f"[{index}]" for index in path[names[-1] + 1 :])


def format_value(value: Any) -> str:
    """Return a value of the document as a message prints it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (tuple, list)):
        return "a list"
    if isinstance(value, int):
        text = str(value)
        return text if len(text) <= MAX_SHOWN else f"an integer of {len(text)} digits"
    text = repr(without_secrets(value)) if isinstance(value, str) else _number(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _number(value: float) -> str:
    """A float, with its fraction: `42.0` is not an integer in YAML."""
    short = f"{value:g}"
    is_faithful = not short.lstrip("-").isdigit() and float(short) == value
    return short if is_faithful else repr(value)


def owner_of(path: KeyPath) -> str:
    """Return the owner of a key: `the experiment`, `stage 'pretrain'`, `'vars'`."""
    if not path:
        return "the experiment"
    if path[0] != "stages":
        return f"{name_of(path)!r}"
    stage = f"stage {str(path[1])!r}"
    return stage if len(path) == 2 else f"{name_of(path)!r} of {stage}"


def quotes_hint(value: Any, kinds: Sequence[str]) -> str:
    """Return a hint to add quotes to a string or remove them from a number; else empty."""
    if kinds == ("string_type",) and isinstance(value, (bool, int, float)):
        return "; quote it"
    wants_number = any(kind.startswith(("int_", "float_")) for kind in kinds)
    is_quoted = (
        wants_number
        and isinstance(value, str)
        and re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", value)
    )
    return "; remove the quotes" if is_quoted else ""


def comma_hint(name: str) -> str:
    """Return a hint for a key that is part of a number, as in `{lr: 1,5e-3}`; else empty."""
    is_number = re.fullmatch(r"[0-9]+([eE][-+]?[0-9]+)?%?", name)
    return "; use a point as decimal separator" if is_number else ""


def bound_text(value: float) -> str:
    """Return a bound as a message prints it."""
    is_short = isinstance(value, float) or abs(value) >= MAX_WRITTEN_OUT
    return f"{value:g}" if is_short else f"{value:,}"


def short_form(amount: Amount) -> Any:
    """Return an amount as people write it: `100`, `5%`, `{tokens: 300_000}`."""
    if amount.percent is not None:
        return f"{amount.percent:g}%"
    return amount.steps if amount.steps is not None else {"tokens": amount.tokens}
