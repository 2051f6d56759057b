"""`continuum compare`: training runs in one table, or the curves of two of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic_core import PydanticCustomError

from continuum.cli.arguments import open_experiment
from continuum.cli.console import AsJson, Cell, Columns, Result, Styled, wants_json
from continuum.cli.output_file import refuse_folder, write_output
from continuum.errors import UsageError
from continuum.experiment.amounts import parse_count
from continuum.formatting import plural
from continuum.planning.folder_state import read_folder
from continuum.reporting.comparison import Comparison, compare_runs
from continuum.reporting.curve_differences import CurveDifference, Point, compare_curves
from continuum.reporting.run_facts import FactsReader, RunFacts
from continuum.reporting.selection import Side, num_earlier, run_folder, select_runs
from continuum.reporting.tables import as_csv, as_latex, as_markdown
from continuum.runs.files import json_text

STYLES = {"complete": "green", "running": "cyan", "damaged": "red", "not begun": "dim"}


ResultT = TypeVar("ResultT", bound=Result)


class TableFormat(Enum):
    """The format of the table, other than JSON."""

    TEXT = "text"
    CSV = "--csv"
    MARKDOWN = "--md"
    LATEX = "--latex"


def compare(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR",
            help="Experiments (an experiment.yaml or its folder), or folders of single runs.",
            show_default=False,
        ),
    ],
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Only this training stage. Repeatable; default: all."),
    ] = None,
    with_earlier: Annotated[
        bool, typer.Option("--all", help="Also the runs of earlier versions of the spec.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TOKENS",
            help="Also the losses after this many training tokens, e.g. 10M.",
        ),
    ] = None,
    curves: Annotated[
        bool,
        typer.Option(
            "--curves",
            help="Compare two runs step by step: where their losses first differ, and by how much.",
        ),
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAMES",
            help="Show these columns: `stage,optimizer.lr,val_loss,best,tokens`. Any field of the "
            "spec is one; `fields` are those that differ.",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="COLUMN",
            help="Sort by this column; `-tokens/s` from the largest.",
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with unrounded numbers.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Print a Markdown table.")] = False,
    latex: Annotated[
        bool, typer.Option("--latex", help="Print a LaTeX table, for the package booktabs.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write to FILE, not to stdout.")
    ] = None,
    as_json: AsJson = False,
) -> "Compared | Curves | None":
    """Compare training runs: fields that differ, losses, tokens, time and speed.

    A row is a run, or complete runs that differ only in their seeds:
    mean ± sample standard deviation of n runs.

    A column of losses names its dataset, and has only losses on the same tokens:
    val_loss/tokens is the last loss on the dataset of the stage `tokens`, best/…
    the lowest. Where the name is not enough, more follows: tokens[80x512] are 80
    sequences of 512 tokens, tokens[1f0e3dad] begins the SHA-256 of the dataset.

    bits_per_byte/book is what a stage of the kind evaluate measured on `book`; eval_loss,
    perplexity and accuracy are columns too.

    A value with * is not one of the last step of a complete run.
    Examples:

    continuum compare lr1 lr2 lr3 --sort val_loss

    continuum compare mine --stage retrain --all

    continuum compare --curves a b
    """
    table_format = _format_of(csv=csv, md=md, latex=latex)
    if out is not None:
        refuse_folder(out)
    reader = FactsReader(_tokens(at))
    sides = [_open(place) for place in places]
    selected = select_runs(sides, stage or (), reader, with_earlier=with_earlier)
    runs = [it for of_side in selected for it in of_side]
    if curves:
        if table_format is not TableFormat.TEXT or columns or sort or at:
            raise UsageError("--curves cannot be combined with --at, --columns, --sort or a format")
        pairs = _pairs(selected)
        return _written(Curves(tuple((*it, tuple(compare_curves(*it))) for it in pairs)), out)
    notes = [
        f"{side.label}: {plural(count, 'earlier run')} of these stages not shown; --all shows them"
        for side, of_side in zip(sides, selected, strict=True)
        if not with_earlier and (count := num_earlier(side, of_side))
    ]
    found = compare_runs(runs, at, notes)
    if sort is not None:
        found = found.sorted_by(sort)
    if columns is not None:
        found = found.with_columns([word.strip() for word in columns.split(",")])
    return _written(Compared(found, table_format), out)


def _written(result: ResultT, out: Path | None) -> ResultT | None:
    """Write a result to a file instead of stdout, if there is one."""
    if out is None:
        return result
    if wants_json():
        text = json_text({"schema": result.schema, **result.as_json()})
    else:
        text = "".join(f"{_plain(it)}\n" for it in result.parts())
    write_output(out, text)
    result.finish()
    return None


def _plain(part: Any) -> str:
    if isinstance(part, Columns):
        return part.plain()
    return part.text if isinstance(part, Styled) else str(part)


def _format_of(*, csv: bool, md: bool, latex: bool) -> TableFormat:
    wanted = [
        it
        for it, is_wanted in (
            (TableFormat.CSV, csv),
            (TableFormat.MARKDOWN, md),
            (TableFormat.LATEX, latex),
        )
        if is_wanted
    ]
    names = [it.value for it in wanted] + (["--json"] if wants_json() else [])
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} cannot be used together")
    return wanted[0] if wanted else TableFormat.TEXT


def _tokens(text: str | None) -> int | None:
    """Convert `10M` to a number of tokens.

    Raises:
        UsageError: the text is not a count.
    """
    if text is None:
        return None
    try:
        return int(parse_count(text))
    except (PydanticCustomError, ValueError):
        raise UsageError(f"--at {text}: not a number of tokens; use e.g. 500k or 10M") from None


def _open(place: Path) -> Side:
    """The experiment or the run that an argument names.

    Raises:
        UsageError: there is neither.
        SpecError: the spec has errors.
    """
    run = run_folder(place)
    if run is not None:
        return Side(str(place), run=run)
    opened = open_experiment(place, None)
    return Side(str(place), state=read_folder(opened.experiment, opened.folder))


def _pairs(selected: Sequence[Sequence[RunFacts]]) -> Iterator[tuple[RunFacts, RunFacts]]:
    """The two runs to compare, or those of each stage that two experiments share.

    Raises:
        UsageError: they are not two.
    """
    runs = [it for of_side in selected for it in of_side]
    if len(runs) == 2:
        yield runs[0], runs[1]
        return
    by_stage = [{it.stage: it for it in of_side} for of_side in selected]
    are_single = [len(found) == len(runs) for found, runs in zip(by_stage, selected, strict=True)]
    common = [name for name in by_stage[0] if all(name in found for found in by_stage)]
    if len(selected) != 2 or not all(are_single) or not common:
        raise UsageError(
            f"--curves compares two runs, not {len(runs)}: give two experiments, two folders "
            "below runs/, or --stage twice"
        )
    yield from ((by_stage[0][name], by_stage[1][name]) for name in common)


@dataclass(frozen=True)
class Compared(Result):
    """A table of runs."""

    schema = "continuum.compare/1"
    found: Comparison
    table_format: TableFormat

    def as_json(self) -> dict[str, Any]:
        return self.found.as_json()

    def parts(self) -> Iterator[str | Columns]:
        if self.table_format is TableFormat.CSV:
            yield as_csv(*self.found.values()).removesuffix("\n")
            return
        table = self.found.table()
        if self.table_format is not TableFormat.TEXT:
            write = as_latex if self.table_format is TableFormat.LATEX else as_markdown
            yield write(table).removesuffix("\n")
            return
        if not table.rows:
            yield "no stage trains"
            return
        headings = tuple(heading.text for heading in table.headings)
        rows = [tuple(map(_styled, row)) for row in table.rows]
        yield Columns(headings, rows)
        yield from (*table.notes, *self.found.notes)

    def finish(self) -> None:
        if self.table_format is not TableFormat.TEXT:
            for note in self.found.notes:
                typer.echo(f"note: {note}", err=True)


def _styled(text: str) -> Cell:
    return Styled(text, STYLES[text]) if text in STYLES else text


@dataclass(frozen=True)
class Curves(Result):
    """Differences between the curves of pairs of runs."""

    schema = "continuum.curves/1"
    found: tuple[tuple[RunFacts, RunFacts, tuple[CurveDifference, ...]], ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "pairs": [
                {
                    "runs": [
                        {
                            "experiment": it.experiment,
                            "stage": it.stage,
                            "run": it.run_name,
                            "state": it.state,
                        }
                        for it in (first, second)
                    ],
                    "curves": [it.as_json() for it in curves],
                }
                for first, second, curves in self.found
            ]
        }

    def parts(self) -> Iterator[str | Styled | Columns]:
        for number, (first, second, curves) in enumerate(self.found):
            if number:
                yield ""
            yield Styled(f"A: {_described(first)}\nB: {_described(second)}", "bold")
            if not curves:
                yield "no loss that both measured on the same data"
                continue
            headings = ("loss", "steps", "first difference", "A", "B", "B - A", "largest", "last")
            yield Columns(headings, [_curve_row(it) for it in curves])
            yield from (line for it in curves if (line := _missing(it)))


def _described(it: RunFacts) -> str:
    place = it.experiment if it.run_name in it.experiment.split("/") else f"{it.experiment}"
    steps = f", {it.figures['steps']:,.0f} steps" if "steps" in it.figures else ""
    name = f" (runs/{it.run_name})" if it.run_name else ""
    return f"{place}: {it.stage}{name}, {it.state}{steps}"


def _curve_row(it: CurveDifference) -> tuple[Cell, ...]:
    first = it.first_difference
    if first is None:
        return (it.name, f"{it.num_steps:,}", Styled("none", "green"), "", "", "", "", "")
    return (
        it.name,
        f"{it.num_steps:,}",
        f"step {first.step:,}",
        _exact(first.first),
        _exact(first.second),
        _difference(first),
        _difference(it.largest_difference, with_step=True),
        _difference(it.last),
    )


def _exact(value: float | None) -> str:
    return "NaN or inf" if value is None else f"{value:.9g}"


def _difference(point: Point | None, *, with_step: bool = False) -> str:
    if point is None or point.difference is None:
        return ""
    step = f" at step {point.step:,}" if with_step else ""
    return f"{point.difference:+.3g}{step}"


def _missing(it: CurveDifference) -> str:
    parts = [
        f"{number:,} only in {name}"
        for name, number in (("A", it.only_first), ("B", it.only_second))
        if number
    ]
    return f"{it.name}: {' and '.join(parts)} (steps)" if parts else ""
