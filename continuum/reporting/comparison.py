"""Compare training runs in one table: the fields that differ, losses, tokens, time and speed.

A row is a run, or the complete runs that differ only in the seeds of training. A column of losses
has only losses that were measured on the same data, which its name says.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from continuum.errors import UsageError
from continuum.formatting import format_seconds, short_digest
from continuum.loading.dump import in_one_line
from continuum.planning.changes import Snapshot, changes
from continuum.reporting.measures import TRAINING_LOSS, Measure, Reading, When
from continuum.reporting.run_facts import COMPLETE, OWN, RunFacts
from continuum.reporting.tables import Heading, Table
from continuum.suggestions import did_you_mean

SHOWN_NAMES = 3
"""Names of the runs of a row; of more, the first and the last are shown."""
DIGEST_LETTERS = 8
LOSS_DIGITS = 4
COMPARED = ("version", "input", "file", "field")
SHOWN_ROLES = ("identity", "runtime")
PROVISIONAL = "*"
PROVISIONAL_NOTE = "* the run is not complete, or this is not a value of its last step"
FieldKey = tuple[str, str, str]
"""The part of a run, and the kind and name of an entry of its snapshot."""


@dataclass(frozen=True)
class Cell:
    """A value of a row; for several runs their mean, or all their values."""

    value: Any = None
    """A number, a text or None."""
    text: str = ""
    std: float | None = None
    """Sample standard deviation (n - 1) of a mean."""
    num_runs: int = 1
    """Runs that have the value."""
    reading: Reading | None = None
    """Of a loss of a single run."""

    def as_json(self) -> Any:
        """The value; an object if there is more to say."""
        found: dict[str, Any] = {"value": self.value}
        if self.std is not None:
            found |= {"std": self.std, "n": self.num_runs}
        if self.reading is not None:
            it = self.reading
            found |= {"step": it.step, "tokens": it.tokens, "is_provisional": it.is_provisional}
        return found if len(found) > 1 else self.value


@dataclass(frozen=True)
class Column:
    """A column: its name for `--columns`, and how a cell is made."""

    name: str
    heading: str
    group: Literal["runs", "fields", "losses", "figures"]
    cell: Callable[["Row"], Cell]
    is_default: bool = True
    is_number: bool = False
    when: When | None = None
    measure: Measure | None = None

    def matches(self, word: str) -> bool:
        """Whether a word of `--columns` or `--sort` means it: a name, its start, or a group."""
        is_in_group = word == self.group and self.is_default
        return is_in_group or word in (self.name, self.heading) or self.name.startswith(f"{word}/")

    def as_json(self) -> dict[str, Any]:
        """The column, with what a loss was measured on."""
        found: dict[str, Any] = {"name": self.name, "group": self.group}
        if self.measure is not None:
            found |= {"when": self.when, **self.measure.as_json()}
        return found


@dataclass(frozen=True)
class Row:
    """A run, or complete runs that differ only in their seeds."""

    runs: tuple[RunFacts, ...]

    @property
    def first(self) -> RunFacts:
        return self.runs[0]


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
            named = [it for it in self.columns if it.matches(word)] or _field_columns(
                self.rows, [key for key in _all_fields(self.rows) if _field_name(key) == word]
            )
            if not named and word != "fields":
                known = [it.name for it in self.columns] + sorted(
                    set(map(_field_name, _all_fields(self.rows)))
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
        is_provisional = any(
            it.reading is not None and it.reading.is_provisional for row in cells for it in row
        )
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
                    "how": it.how,
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
    fields = _field_columns(rows, _differing_fields(runs))
    columns = (
        *_run_columns(rows),
        *fields,
        *_seed_columns(rows),
        *_loss_columns(rows, at),
        *_FIGURES,
    )
    how = [f"{it.run_name}: {it.state}: {it.how}" for it in runs if it.how]
    shown = tuple(column for column in columns if column.is_default)
    return Comparison(rows, columns, shown, (*notes, *how))


def _rows(runs: Iterable[RunFacts]) -> Iterator[Row]:
    """Collect the complete runs that differ only in seeds; a second run of the same does not."""
    grouped: dict[Any, dict[str, RunFacts]] = {}
    for number, it in enumerate(runs):
        key: Any = number
        if it.state == COMPLETE:
            measured = frozenset(measure for _, measure in it.readings)
            precision = it.parts[OWN].get(("field", "precision"))
            key = (it.fingerprint_without_seeds, measured, precision)
            key = number if it.fingerprint in grouped.get(key, ()) else key
        grouped.setdefault(key, {})[it.fingerprint] = it
    return (Row(tuple(found.values())) for found in grouped.values())


def _differing_fields(runs: Iterable[RunFacts]) -> list[FieldKey]:
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


def _all_fields(rows: Iterable[Row]) -> list[FieldKey]:
    found: dict[FieldKey, None] = {}
    for it in (it for row in rows for it in row.runs):
        for part, snapshot in it.parts.items():
            found |= {(part, *key): None for key in snapshot if key[0] in COMPARED}
    return list(found)


def _field_name(key: FieldKey) -> str:
    part, what, name = key
    if what == "version":
        name = "version"
    return f"{part}.{name}" if part and what != "input" else name


def _field_columns(rows: Sequence[Row], keys: Iterable[FieldKey]) -> list[Column]:
    found = []
    for key in keys:

        def cell(row: Row, key: FieldKey = key) -> Cell:
            return _joined([_field_value(it, key) for it in row.runs], lambda it: _shown(key, it))

        values = [cell(row).value for row in rows]
        is_number = all(isinstance(it, (int, float, type(None))) for it in values)
        name = _field_name(key)
        found.append(Column(name, name, "fields", cell, is_number=is_number))
    return found


def _field_value(it: RunFacts, key: FieldKey) -> Any:
    part, *name = key
    entry = it.parts.get(part, {}).get((name[0], name[1]))
    return None if entry is None else entry.value


def _shown(key: FieldKey, value: Any) -> str:
    return short_digest(value) if key[1] == "file" else _in_one_line(value)


def _in_one_line(value: Any) -> str:
    return _scalar(value) if isinstance(value, (int, float, str)) else in_one_line(value)


@lru_cache(maxsize=None, typed=True)
def _scalar(value: float | str) -> str:
    return in_one_line(value)


def _joined(values: Sequence[Any], text: Callable[[Any], str] = str) -> Cell:
    """The value of all runs; if they differ, all of them, of which the text shows a few."""
    distinct = list(dict.fromkeys(str(it) if isinstance(it, (list, dict)) else it for it in values))
    if len(distinct) == 1:
        value = values[0]
        return Cell(value, "" if value is None else text(value))
    texts = ["" if it is None else text(it) for it in distinct]
    few = texts if len(texts) <= SHOWN_NAMES else [texts[0], "…", texts[-1]]
    return Cell(", ".join(texts), ", ".join(few).replace(", …, ", " … "))


def _run_columns(rows: Sequence[Row]) -> list[Column]:
    runs = [it for row in rows for it in row.runs]
    places = {(it.experiment, it.stage) for it in runs}

    def label(name: str, of: Callable[[RunFacts], Any], *, is_default: bool) -> Column:
        def cell(row: Row) -> Cell:
            return _joined([of(it) for it in row.runs])

        return Column(name, name, "runs", cell, is_default)

    return [
        label(
            "experiment",
            lambda it: it.experiment,
            is_default=len({it.experiment for it in runs}) > 1,
        ),
        label("stage", lambda it: it.stage, is_default=True),
        label("kind", lambda it: it.kind, is_default=False),
        label("run", lambda it: it.run_name, is_default=len(places) < len(runs)),
        label("state", lambda it: it.state, is_default=True),
        Column(
            "n",
            "n",
            "runs",
            _num_runs,
            is_default=any(len(row.runs) > 1 for row in rows),
            is_number=True,
        ),
    ]


def _num_runs(row: Row) -> Cell:
    num_runs = sum(it.run is not None for it in row.runs)
    return Cell(num_runs, str(num_runs))


def _seed_columns(rows: Sequence[Row]) -> list[Column]:
    """The seeds, if rows of the same kind differ in them."""

    def cell(row: Row) -> Cell:
        return _joined([_seeds_of(it) for it in row.runs])

    by_kind: dict[str, set[str]] = {}
    for row in rows:
        if row.first.seeds:
            by_kind.setdefault(row.first.kind, set()).add(cell(row).text)
    differs = any(len(texts) > 1 for texts in by_kind.values())
    return [Column("seeds", "seeds", "fields", cell, is_default=differs, is_number=True)]


def _seeds_of(it: RunFacts) -> Any:
    """The seed, or each by its name if they differ."""
    distinct = set(it.seeds.values())
    if len(distinct) <= 1:
        return next(iter(distinct), None)
    return ", ".join(f"{name} {value}" for name, value in it.seeds.items())


def _loss_columns(rows: Sequence[Row], at: str | None) -> list[Column]:
    names: dict[Measure, dict[str, None]] = {}
    for it in (it for row in rows for it in row.runs):
        for _, measure in it.readings:
            names.setdefault(measure, {})[measure.data_name] = None
    titles = _titles({it: "=".join(found) for it, found in names.items()})
    is_evaluated = any(measure.metric != TRAINING_LOSS for measure in names)
    moments: list[tuple[When, str, str]] = [("final", "", ""), ("best", "best/", "")]
    if at is not None:
        moments.append(("at", "", f"@{at}"))
    found = []
    for when, before, after in moments:
        for measure, title in titles.items():
            if when == "best" and measure.metric == TRAINING_LOSS:
                continue
            name = f"{before}{title}{after}"
            is_default = measure.metric != TRAINING_LOSS or not is_evaluated
            cell = _loss_cell(when, measure)
            found.append(Column(name, name, "losses", cell, is_default, True, when, measure))
    return found


def _titles(names: Mapping[Measure, str]) -> dict[Measure, str]:
    """A name for each measure: the stage of its data, and more if that is not unique."""
    plain = {it: f"{it.metric}/{name}" for it, name in names.items()}
    found: dict[Measure, str] = {}
    for measure, title in plain.items():
        others = [it for it, other in plain.items() if other == title]
        more = [
            text(measure)
            for text in (_digests, _shares, _amount)
            if len({text(other) for other in others}) > 1
        ]
        found[measure] = f"{title}[{' '.join(more)}]" if more else title
    return dict(sorted(found.items(), key=lambda item: item[0].metric != "val_loss"))


def _digests(it: Measure) -> str:
    return "+".join(part.digest[:DIGEST_LETTERS] for part in it.data)


def _shares(it: Measure) -> str:
    return ":".join(f"{part.share:g}" for part in it.data if part.share is not None)


def _amount(it: Measure) -> str:
    length = str(it.sequence_length)
    return length if it.num_sequences is None else f"{it.num_sequences}x{length}"


def _loss_cell(when: When, measure: Measure) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        readings = [it.readings.get((when, measure)) for it in row.runs]
        known = [it for it in readings if it is not None]
        if len(row.runs) == 1 and known:
            mark = PROVISIONAL if known[0].is_provisional else ""
            text = f"{_loss_text(known[0].value)}{mark}"
            if when == "at" and known[0].tokens is not None:
                text += f" at {known[0].tokens:,}"
            return Cell(known[0].value, text, reading=known[0])
        return _mean([it.value for it in known], len(row.runs), _loss_text)

    return cell


def _loss_text(value: float) -> str:
    return f"{value:.{LOSS_DIGITS}f}"


def _figure_cell(name: str, text: Callable[[float], str]) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        values = [it.figures[name] for it in row.runs if name in it.figures]
        if len(set(values)) == 1 and len(values) == len(row.runs):
            return Cell(values[0], text(values[0]))
        return _mean(values, len(row.runs), text)

    return cell


def _mean(values: Sequence[float], num_runs: int, text: Callable[[float], str]) -> Cell:
    """Mean and sample standard deviation of the runs that have a value."""
    if not values:
        return Cell()
    mean = math.fsum(values) / len(values)
    std = statistics.stdev(values) if len(values) > 1 else None
    shown = text(mean) if std is None else f"{text(mean)} ± {text(std)}"
    shown += f" (n = {len(values)})" if len(values) < num_runs else ""
    return Cell(mean, shown, std, len(values))


def _count(value: float) -> str:
    return f"{value:,.0f}"


_FIGURES = tuple(
    Column(name, heading, "figures", _figure_cell(name, text), is_default, is_number=True)
    for name, heading, text, is_default in (
        ("steps", "steps", _count, False),
        ("tokens", "tokens", _count, True),
        ("tokens_total", "tokens_total", _count, False),
        ("elapsed_s", "time", format_seconds, True),
        ("tokens_per_s", "tokens/s", _count, True),
    )
)


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Numbers before texts."""
    is_text = not isinstance(value, (int, float))
    return (is_text, str(value) if is_text else value)
