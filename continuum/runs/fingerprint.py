"""Fingerprints of specs: canonical JSON and its SHA-256.

The payload is stored beside its hash, so that a changed fingerprint can be explained field by
field. A value without a canonical form raises: a permissive `str(value)` would let memory addresses
or set order into the identity of a week's work.
"""

import hashlib
import json
import math
from typing import Any


def canonical_json(value: Any) -> str:
    """The canonical JSON of `value`: sorted keys, no spaces, shortest round-trip numbers.

    Raises:
        TypeError: `value` holds something without a canonical form (a set, an object, NaN …).
    """
    _check(value, "$")
    return _dump(value)


def fingerprint(payload: Any) -> str:
    """SHA-256 of the payload's canonical JSON, as hexadecimal."""
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()


def fingerprint_of_json(document: Any) -> str:
    """The fingerprint of a value that was read from JSON, and so needs no check."""
    return hashlib.sha256(_dump(document).encode()).hexdigest()


def _dump(value: Any) -> str:
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
