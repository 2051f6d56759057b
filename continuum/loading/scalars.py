"""Plain scalars by YAML 1.2's core schema, not PyYAML's 1.1.

`3e-4` is a float, `no` and `on` are text, dates are text. `010` is ten by 1.2 and eight by 1.1: it
is refused.
"""

import math
import re

MAX_DIGITS = 4000
"""Python refuses to read longer integers."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_scalar(text: str) -> "str | int | float | bool | None":
    """A plain scalar by YAML 1.2's core schema.

    Raises:
        ValueError: a number no computer holds, such as `1e999`, or one read in two ways: `010`.
    """
    if _NULL.fullmatch(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        if _LEADING_ZERO.fullmatch(text):
            raise ValueError(
                f"{text[:20]} is octal to some programs; leave out the zeros, or quote a text"
            )
        if len(text) > MAX_DIGITS:
            raise ValueError(f"an integer of {len(text):,} digits is too large")
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _SPECIAL_FLOAT.fullmatch(text):
        raise ValueError(f"{text} is not a usable number")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"{text[:20]} is too large for a number")
        return number
    return text
