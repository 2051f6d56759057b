"""The columns of a comparison: the runs, their seeds, losses and figures."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from continuum.formatting import format_seconds
from continuum.reporting.measures import SCORES, TRAINING_LOSS, Measure, Reading, When
from continuum.reporting.run_facts import RunFacts

SHOWN_NAMES = 3
"""Values of the runs of a row; of more, the first and the last are shown."""
DIGEST_LETTERS = 8
LOSS_DIGITS = 4
PROVISIONAL = "*"


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
    is_provisional: bool = False
    """Whether a run is not complete, or its value is not of its last step."""

    def as_json(self) -> Any:
        """The value; an object if there is more to say."""
        found: dict[str, Any] = {"value": self.value}
        if self.std is not None:
            found |= {"std": self.std, "n": self.num_runs}
        if self.reading is not None:
            it = self.reading
            found |= {"step": it.step, "tokens": it.tokens}
        if self.reading is not None or self.is_provisional:
            found["is_provisional"] = self.is_provisional
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


def joined(values: Sequence[Any], text: Callable[[Any], str] = str) -> Cell:
    """The value of all runs; if they differ, all of them, of which the text shows a few."""
    distinct = list(dict.fromkeys(str(it) if isinstance(it, (list, dict)) else it for it in values))
    if len(distinct) == 1:
        value = values[0]
        return Cell(value, "" if value is None else text(value))
    texts = ["" if it is None else text(it) for it in distinct]
    few = texts if len(texts) <= SHOWN_NAMES else [texts[0], "…", texts[-1]]
    return Cell(", ".join(texts), ", ".join(few).replace(", …, ", " … "))


def run_columns(rows: Sequence[Row]) -> list[Column]:
    """Which runs a row has; what is the same for all is not shown by default."""
    runs = [it for row in rows for it in row.runs]
    places = {(it.experiment, it.stage) for it in runs}

    def label(name: str, of: Callable[[RunFacts], Any], *, is_default: bool) -> Column:
        def cell(row: Row) -> Cell:
            return joined([of(it) for it in row.runs])

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


def seed_columns(rows: Sequence[Row]) -> list[Column]:
    """The seeds, if rows of the same kind differ in them."""

    def cell(row: Row) -> Cell:
        return joined([_seeds_of(it) for it in row.runs])

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


def loss_columns(rows: Sequence[Row], at: str | None) -> list[Column]:
    """The last and the best loss of each measure, and those at a number of tokens."""
    names: dict[Measure, dict[str, None]] = {}
    for it in (it for row in rows for it in row.runs):
        for _, measure in it.readings:
            names.setdefault(measure, {})[measure.data_name] = None
    titles = _titles({it: "=".join(found) for it, found in names.items()})
    trained = [it for it in titles if it.metric not in SCORES]
    validated = [it for it in trained if it.metric != TRAINING_LOSS]
    moments: list[tuple[When, str, str, list[Measure]]] = [
        ("final", "", "", trained),
        ("best", "best/", "", validated),
        ("at", "", f"@{at}", trained if at is not None else []),
        ("scored", "", "", [it for it in titles if it.metric in SCORES]),
    ]
    hidden = {*SCORES[1:], *((TRAINING_LOSS,) if validated else ())}
    found = []
    for when, before, after, measures in moments:
        for measure in measures:
            name = f"{before}{titles[measure]}{after}"
            is_default = measure.metric not in hidden
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
            for text in (_digests, _shares, _amount, _split, _tokenization)
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


def _split(it: Measure) -> str:
    return it.split


def _tokenization(it: Measure) -> str:
    return (it.tokenization or "")[:DIGEST_LETTERS]


def _loss_cell(when: When, measure: Measure) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        readings = [it.readings.get((when, measure)) for it in row.runs]
        known = [it for it in readings if it is not None]
        if len(row.runs) == 1 and known:
            mark = PROVISIONAL if known[0].is_provisional else ""
            text = f"{_loss_text(known[0].value)}{mark}"
            if when == "at" and known[0].tokens is not None:
                text += f" at {known[0].tokens:,}"
            is_provisional = known[0].is_provisional
            return Cell(known[0].value, text, reading=known[0], is_provisional=is_provisional)
        found = _mean([it.value for it in known], len(row.runs), _loss_text)
        is_provisional = any(it.is_provisional for it in known)
        mark = PROVISIONAL if is_provisional else ""
        return replace(found, text=found.text + mark, is_provisional=is_provisional)

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


FIGURE_COLUMNS = tuple(
    Column(name, heading, "figures", _figure_cell(name, text), is_default, is_number=True)
    for name, heading, text, is_default in (
        ("steps", "steps", _count, False),
        ("tokens", "tokens", _count, True),
        ("tokens_total", "tokens_total", _count, False),
        ("elapsed_s", "time", format_seconds, True),
        ("tokens_per_s", "tokens/s", _count, True),
    )
)
