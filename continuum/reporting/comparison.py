"""Compare training runs in one table: the fields that differ, losses, tokens, time and speed.

A row is a run, or the complete runs that differ only in the seeds of training. A column of losses
has only losses that were measured on the same data, which its name says.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from continuum.errors import UsageError
from continuum.reporting.columns import (
    FIGURE_COLUMNS,
    PROVISIONAL,
    Column,
    Row,
    loss_columns,
    run_columns,
    seed_columns,
)
from continuum.reporting.differing_fields import (
    all_fields,
    differing_fields,
    field_columns,
    field_name,
)
from continuum.reporting.recorded_fields import OWN
from continuum.reporting.run_facts import COMPLETE, RunFacts
from continuum.reporting.tables import Heading, Table
from continuum.runs.redaction import without_secrets
from continuum.suggestions import did_you_mean

PROVISIONAL_NOTE = f"{PROVISIONAL} not a value of the last step of a complete run"


@dataclass(frozen=True)
class Comparison:
    """Rows and the columns to show."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    """All of them, those of `--columns` included."""
    shown: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    def with_columns(self, words: Sequence[str]) -> "Comparison":
        """Show these columns, in this order; a field does not have to differ.

        Raises:
            UsageError: a word means none.
        """
        found: dict[str, Column] = {}
        for word in words:
            named = [it for it in self.columns if it.matches(word)] or field_columns(
                self.rows, [key for key in all_fields(self.rows) if field_name(key) == word]
            )
            if not named and word != "fields":
                known = [it.name for it in self.columns] + sorted(
                    set(map(field_name, all_fields(self.rows)))
                )
                hint = did_you_mean(word, known)
                listed = ", ".join(it.name for it in self.columns)
                raise UsageError(f"--columns {word}: no such column{hint}; there are: {listed}")
            found |= {it.name: it for it in named}
        return replace(self, shown=tuple(found.values()))

    def sorted_by(self, word: str) -> "Comparison":
        """Sort by a column, `-NAME` from the largest; rows without a value come last.

        Raises:
            UsageError: the word means no column, or several.
        """
        is_reversed, word = word.startswith("-"), word.removeprefix("-")
        named = {it.name: it for it in (*self.shown, *self.columns) if it.matches(word)}
        column = named.get(word) or next(iter(named.values()), None)
        if column is None:
            names = [it.name for it in self.columns]
            hint = did_you_mean(word, names)
            listed = ", ".join(names)
            raise UsageError(f"--sort {word}: no such column{hint}; there are: {listed}")
        if len(named) > 1 and word not in named:
            raise UsageError(f"--sort {word} means several columns: {', '.join(named)}")
        values = {id(row): column.cell(row).value for row in self.rows}
        known = [row for row in self.rows if values[id(row)] is not None]
        rest = [row for row in self.rows if values[id(row)] is None]
        known.sort(key=lambda row: _sort_key(values[id(row)]), reverse=is_reversed)
        return replace(self, rows=(*known, *rest))

    def table(self) -> Table:
        """The table with texts for people."""
        cells = [[column.cell(row) for column in self.shown] for row in self.rows]
        is_provisional = any(it.is_provisional for row in cells for it in row)
        headings = [Heading(it.heading, it.is_number) for it in self.shown]
        texts = [[cell.text for cell in row] for row in cells]
        return Table(headings, texts, [PROVISIONAL_NOTE] if is_provisional else [])

    def values(self) -> tuple[list[str], list[list[Any]]]:
        """The names of the columns and their unrounded values; a mean's deviation has its own."""
        cells = [[column.cell(row) for row in self.rows] for column in self.shown]
        names, columns = [], []
        for column, values in zip(self.shown, cells, strict=True):
            names.append(column.name)
            columns.append([cell.value for cell in values])
            if any(cell.std is not None for cell in values):
                names.append(f"{column.name} std")
                columns.append([cell.std for cell in values])
        return names, [list(row) for row in zip(*columns, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """The columns, and each row with its runs."""
        rows = []
        for row in self.rows:
            runs = [
                {
                    "experiment": it.experiment,
                    "stage": it.stage,
                    "run": it.run_name,
                    "state": it.state,
                    "how": without_secrets(it.how),
                    "fingerprint": it.fingerprint or None,
                    "seeds": dict(it.seeds),
                }
                for it in row.runs
            ]
            cells = {column.name: column.cell(row).as_json() for column in self.shown}
            rows.append({"runs": runs, "n": len(runs), "cells": cells})
        columns = [column.as_json() for column in self.shown]
        return {"columns": columns, "rows": rows, "notes": list(self.notes)}


def compare_runs(
    runs: Sequence[RunFacts], at: str | None = None, notes: Iterable[str] = ()
) -> Comparison:
    """Compare runs: one row each, in this order, or one for those that differ in seeds alone.

    Args:
        at: The number of tokens of the readings in between, as the user wrote it.
    """
    rows = tuple(_rows(runs))
    fields = field_columns(rows, differing_fields(runs))
    columns = (
        *run_columns(rows),
        *fields,
        *seed_columns(rows),
        *loss_columns(rows, at),
        *FIGURE_COLUMNS,
    )
    how = [without_secrets(f"{it.run_name}: {it.state}: {it.how}") for it in runs if it.how]
    shown = tuple(column for column in columns if column.is_default)
    return Comparison(rows, columns, shown, (*notes, *how))


def _rows(runs: Iterable[RunFacts]) -> Iterator[Row]:
    """Collect the complete runs that differ only in seeds; a second run of the same does not."""
    grouped: dict[Any, dict[str, RunFacts]] = {}
    for number, it in enumerate(runs):
        key: Any = number
        if it.state == COMPLETE:
            measured = frozenset(it.measures.values())
            precision = it.parts[OWN].get(("field", "precision"))
            key = (it.fingerprint_without_seeds, measured, precision)
            key = number if it.fingerprint in grouped.get(key, ()) else key
        grouped.setdefault(key, {})[it.fingerprint] = it
    return (Row(tuple(found.values())) for found in grouped.values())


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Numbers before texts."""
    is_text = not isinstance(value, (int, float))
    return (is_text, str(value) if is_text else value)
