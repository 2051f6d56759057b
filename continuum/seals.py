"""Seals: one SHA-256 over all other fields of a JSON document, so that an edit of it shows.

A checkpoint's manifest and a run's `artifact.json` are sealed by this rule. A seal can be computed
anew by whoever edits the document; so the seal of a finished run is also written down elsewhere,
in what was made from the run and in `continuum.lock`.
"""

from collections.abc import Mapping
from typing import Any

from continuum.fingerprint import fingerprint, fingerprint_of_json


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its seal.

    Raises:
        TypeError: it holds something with no single spelling, as NaN.
    """
    return {**document, "seal": fingerprint(_unsealed(document))}


def is_sealed(document: Mapping[str, Any]) -> bool:
    """True if the fields, as they were read from JSON, are those that were sealed."""
    return document.get("seal") == fingerprint_of_json(_unsealed(document))


def _unsealed(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "seal"}
