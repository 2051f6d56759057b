"""Fingerprints of specs: canonical JSON, its SHA-256, and the difference of two payloads.

The payload is stored beside its hash, so that a changed fingerprint can be explained field by
field. A value that has no single spelling raises: a permissive `str(value)` would let memory
addresses or set order into the identity of a week's work.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ABSENT = "(absent)"


@dataclass(frozen=True)
class FieldChange:
    """One field that differs between two payloads."""

    path: str
    """Dotted, as in `stage.optimizer.lr`."""
    old: Any
    new: Any


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, shortest round-trip numbers.

    Raises:
        TypeError: `value` holds something with no single spelling (a set, an object, NaN …).
    """
    _check(value, "$")
    return _spelled(value)


def fingerprint(payload: Any) -> str:
    """SHA-256 of the payload's canonical JSON, as hexadecimal."""
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()


def fingerprint_of_json(document: Any) -> str:
    """The fingerprint of a value that was read from JSON, which has a spelling in any case."""
    return hashlib.sha256(_spelled(document).encode()).hexdigest()


def diff_payloads(old: Any, new: Any, path: str = "") -> Iterator[FieldChange]:
    """Every field that differs, in the order of their paths."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}.{key}" if path else key
            yield from diff_payloads(old.get(key, ABSENT), new.get(key, ABSENT), below)
    elif old != new:
        yield FieldChange(path, old, new)


def _spelled(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _check(value: Any, path: str) -> None:
    if value is None or isinstance(value, (bool, int, str)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{path}: {value} has no canonical form")
        return
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{path}: key {key!r} is not a string")
            _check(item, f"{path}.{key}")
        return
    raise TypeError(f"{path}: a {type(value).__name__} has no canonical form")
