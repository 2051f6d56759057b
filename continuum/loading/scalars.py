"""Plain scalars by the core schema of YAML 1.2, not by YAML 1.1 as in PyYAML.

`3e-4` is a float; `no`, `on` and dates are strings. `010` is an error: it is ten in YAML 1.2 and
eight in YAML 1.1.
"""

import math
import re

MAX_DIGITS = 4000
"""Python does not parse longer integers."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_scalar(text: str) -> "str | int | float | bool | None":
    """Return the value of a plain scalar by the core schema of YAML 1.2.

    Raises:
        ValueError: the number is not finite, too large, or ambiguous (`010`).
    """
    if _NULL.fullmatch(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        if _LEADING_ZERO.fullmatch(text):
            raise ValueError(
                f"{text[:20]} is octal in YAML 1.1; remove the leading zeros, or quote it"
            )
        if len(text) > MAX_DIGITS:
            raise ValueError(f"integer of {len(text):,} digits is too large")
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _SPECIAL_FLOAT.fullmatch(text):
        raise ValueError(f"invalid number {text}: must be finite")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"number {text[:20]} is too large")
        return number
    return text
