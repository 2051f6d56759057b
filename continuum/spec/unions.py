"""Pydantic's errors without its own tags: one account of each value that failed a union.

For a field such as `data: Ref | dict[Ref, float]` Pydantic reports the complaints of every
alternative, each below a tag that stands nowhere in the document.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from continuum.spec.keys import KeyPath
from continuum.spec.source import Node

UNION = "union"
"""The kind of a fault that no alternative of a union explains better: all want another type."""


@dataclass(frozen=True)
class Fault:
    """One complaint about the value at `path` of the document."""

    path: KeyPath
    kind: str
    message: str
    context: dict[str, Any]
    kinds: tuple[str, ...] = ()
    """The kind, or those of all alternatives."""


@dataclass(frozen=True)
class _Tagged:
    fault: Fault
    union: KeyPath | None
    """Where the first union lies on the way, if any."""
    tag: str
    """Pydantic's name for the alternative."""


def sort_out_unions(
    node: Node, error: ValidationError, type_clashes: Collection[str]
) -> Iterator[Fault]:
    """The faults of a validation error about the value in `node`."""
    alternatives: dict[KeyPath, dict[str, list[Fault]]] = {}
    for raw in error.errors(include_url=False, include_input=False):
        tagged = _untag(node, raw)
        if tagged.union is None:
            yield tagged.fault
        else:
            group = alternatives.setdefault(tagged.union, {})
            group.setdefault(tagged.tag, []).append(tagged.fault)
    for place, group in alternatives.items():
        yield from _best(place, group, type_clashes)


def _best(
    place: KeyPath, group: dict[str, list[Fault]], type_clashes: Collection[str]
) -> list[Fault]:
    """The alternative that was meant: the one that complains about something inside it."""
    telling = [
        faults
        for faults in group.values()
        if any(fault.path != place or fault.kind not in type_clashes for fault in faults)
    ]
    if telling:
        return max(telling, key=lambda faults: max(len(fault.path) for fault in faults))
    kinds = tuple(tag if tag in type_clashes else faults[0].kind for tag, faults in group.items())
    first = next(iter(group.values()))[0]
    return [Fault(place, UNION if len(kinds) > 1 else first.kind, first.message, {}, kinds)]


def _untag(node: Node, raw: Any) -> _Tagged:
    loc: KeyPath = tuple(part for part in raw["loc"] if part != "[key]")
    is_missing = raw["type"] == "missing"
    taken = _align(node, loc[:-1] if is_missing else loc, 0)
    path = tuple(loc[number] for number in taken)
    skipped = [n for n in range(len(loc) - is_missing) if n not in taken]
    union = tuple(loc[n] for n in taken if n < skipped[0]) if skipped else None
    if is_missing:
        path = (*path, loc[-1])
    fault = Fault(path, raw["type"], raw["msg"], raw.get("ctx") or {}, (raw["type"],))
    return _Tagged(fault, union, str(loc[skipped[0]]) if skipped else "")


def _align(node: Node, loc: KeyPath, start: int) -> list[int]:
    """Which parts of `loc` are keys of the document; the others are tags.

    A tag may be spelled like a key (`validation.fraction`), so both readings are tried: the one
    that reaches the last part wins, then the one that uses most.
    """
    if start == len(loc):
        return []
    below = node.child(loc[start])
    without = _align(node, loc, start + 1)
    if below is None:
        return without
    taken = [start, *_align(below, loc, start + 1)]
    last = len(loc) - 1
    return max(taken, without, key=lambda parts: (last in parts, len(parts)))
