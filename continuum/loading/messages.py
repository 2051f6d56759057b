"""How messages call places and values: words and forms that stand in the user's own file."""

import re
from collections.abc import Sequence
from typing import Any

from continuum.experiment.amounts import Amount
from continuum.loading.keys import KeyPath

MAX_SHOWN = 60
"""Letters of a value that a message repeats."""
MAX_WRITTEN_OUT = 10**15
"""Bounds are written in full below this."""


def name_of(path: KeyPath) -> str:
    """How a message calls the value at a path: `lr`, `betas[0]`, `sources[2]`."""
    names = [number for number, part in enumerate(path) if isinstance(part, str)]
    if not names:
        return "the experiment"
    return str(path[names[-1]]) + "".join(f"[{index}]" for index in path[names[-1] + 1 :])


def show(value: Any) -> str:
    """A value of the document as a message repeats it."""
    if value is None:
        return "null (nothing)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (tuple, list)):
        return "a list"
    if isinstance(value, int):
        text = str(value)
        return text if len(text) <= MAX_SHOWN else f"a number of {len(text)} digits"
    text = repr(str(value)) if isinstance(value, str) else _number(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _number(value: float) -> str:
    """A number with a fraction, however small: `42.0`, which is no whole number to YAML."""
    short = f"{value:g}"
    is_faithful = not short.lstrip("-").isdigit() and float(short) == value
    return short if is_faithful else repr(value)


def owner_of(path: KeyPath) -> str:
    """The owner of a key: `the experiment`, `stage 'pretrain'`, `optimizer of stage 'pretrain'`."""
    if not path:
        return "the experiment"
    if path[0] != "stages":
        return f"{name_of(path)!r}"
    stage = f"stage {str(path[1])!r}"
    return stage if len(path) == 2 else f"{name_of(path)!r} of {stage}"


def quotes_hint(value: Any, kinds: Sequence[str]) -> str:
    """What to do about quotes around a number, or their absence around a text; empty if nothing."""
    if kinds == ("string_type",) and isinstance(value, (bool, int, float)):
        return "; put it in quotes"
    wants_number = any(kind.startswith(("int_", "float_")) for kind in kinds)
    is_quoted = (
        wants_number
        and isinstance(value, str)
        and re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", value)
    )
    return "; take the quotes off" if is_quoted else ""


def comma_hint(name: str) -> str:
    """For an unknown key that is the rest of a number, as in `{lr: 1,5e-3}`; empty for others."""
    is_number = re.fullmatch(r"[0-9]+([eE][-+]?[0-9]+)?%?", name)
    return "; decimals are written with a point, not a comma" if is_number else ""


def bound_text(value: float) -> str:
    """The number that a value should be above or below."""
    is_short = isinstance(value, float) or abs(value) >= MAX_WRITTEN_OUT
    return f"{value:g}" if is_short else f"{value:,}"


def short_form(amount: Amount) -> Any:
    """Return an amount as people write it: `100`, `5%`, `{tokens: 300_000}`."""
    if amount.percent is not None:
        return f"{amount.percent:g}%"
    return amount.steps if amount.steps is not None else {"tokens": amount.tokens}
