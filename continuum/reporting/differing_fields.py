"""The fields in which runs differ, their own and their ancestors'."""

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from continuum.formatting import short_digest
from continuum.loading.dump import in_one_line
from continuum.planning.changes import Snapshot, changes
from continuum.reporting.columns import Cell, Column, Row, joined
from continuum.reporting.run_facts import RunFacts
from continuum.runs.redaction import without_secrets

COMPARED = ("version", "input", "file", "field")
SHOWN_ROLES = ("identity", "runtime")
FieldKey = tuple[str, str, str]
"""The part of a run, and the kind and name of an entry of its snapshot."""


def differing_fields(runs: Iterable[RunFacts]) -> list[FieldKey]:
    """The fields that differ between runs of the same kind, in the order of the spec."""
    by_kind: dict[str, list[RunFacts]] = {}
    for it in runs:
        if it.parts:
            by_kind.setdefault(it.kind, []).append(it)
    found: dict[FieldKey, None] = {}
    for alike in by_kind.values():
        common = [name for name in alike[0].parts if all(name in it.parts for it in alike)]
        for part in common:
            found |= dict.fromkeys(_differing_entries(part, [it.parts[part] for it in alike]))
    return list(found)


def _differing_entries(part: str, snapshots: Sequence[Snapshot]) -> list[FieldKey]:
    first, differing = snapshots[0], set[tuple[str, str]]()
    compared = _compared(first)
    for snapshot in snapshots[1:]:
        if snapshot is not first and _compared(snapshot) != compared:
            found = changes(first, snapshot, COMPARED)
            differing |= {(it.what, it.name) for it in found if it.role in SHOWN_ROLES}
    names = dict.fromkeys(key for snapshot in snapshots for key in snapshot if key in differing)
    return [(part, *key) for key in names]


def _compared(snapshot: Snapshot) -> dict[tuple[str, str], Any]:
    return {key: entry for key, entry in snapshot.items() if key[0] in COMPARED}


def all_fields(rows: Iterable[Row]) -> list[FieldKey]:
    """The fields that any run has."""
    found: dict[FieldKey, None] = {}
    for it in (it for row in rows for it in row.runs):
        for part, snapshot in it.parts.items():
            found |= {(part, *key): None for key in snapshot if key[0] in COMPARED}
    return list(found)


def field_name(key: FieldKey) -> str:
    """Its name as a column: `optimizer.lr`, or `pretrain.optimizer.lr` of an ancestor."""
    part, what, name = key
    if what == "version":
        name = "version"
    return f"{part}.{name}" if part and what != "input" else name


def field_columns(rows: Sequence[Row], keys: Iterable[FieldKey]) -> list[Column]:
    """A column for each of these fields."""
    found = []
    for key in keys:

        def cell(row: Row, key: FieldKey = key) -> Cell:
            return joined([_field_value(it, key) for it in row.runs], lambda it: _shown(key, it))

        values = [cell(row).value for row in rows]
        is_number = all(isinstance(it, (int, float, type(None))) for it in values)
        name = field_name(key)
        found.append(Column(name, name, "fields", cell, is_number=is_number))
    return found


def _field_value(it: RunFacts, key: FieldKey) -> Any:
    part, *name = key
    entry = it.parts.get(part, {}).get((name[0], name[1]))
    if entry is None:
        return None
    return _without_secrets(entry.value) if isinstance(entry.value, str) else entry.value


@cache
def _without_secrets(text: str) -> str:
    """The text of a spec, which a record does not have with its secrets."""
    return without_secrets(text)


def _shown(key: FieldKey, value: Any) -> str:
    return short_digest(value) if key[1] == "file" else _in_one_line(value)


def _in_one_line(value: Any) -> str:
    return _scalar(value) if isinstance(value, (int, float, str)) else in_one_line(value)


@lru_cache(maxsize=None, typed=True)
def _scalar(value: float | str) -> str:
    return in_one_line(value)
