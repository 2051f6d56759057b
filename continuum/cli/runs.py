"""`continuum runs`: list all runs of the folder, and what needs them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.cli.console import AsJson, Cell, Columns, Result, Styled
from continuum.errors import UsageError
from continuum.formatting import format_age, format_bytes, plural
from continuum.planning.inventory import RunInfo, list_runs
from continuum.suggestions import did_you_mean

HEADINGS = ("run", "state", "age", "size", "result", "needed by", "differs from the spec")
STYLES = {"complete": "green", "running": "cyan", "damaged": "red"}


def runs(
    spec: Spec,
    stage: Annotated[
        str | None, typer.Option("--stage", help="List only the runs of this stage.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> "Runs":
    """List all runs of the folder: state, age, size, result, and what needs them."""
    opened = open_experiment(spec, overrides)
    found = list_runs(opened.plan())
    if stage is not None:
        known = sorted({it.stage for it in found})
        if stage not in known:
            raise UsageError(f"--stage {stage}: no runs of this stage{did_you_mean(stage, known)}")
        found = tuple(it for it in found if it.stage == stage)
    return Runs(found)


@dataclass(frozen=True)
class Runs(Result):
    """The runs of an experiment folder."""

    schema = "continuum.runs/1"
    runs: tuple[RunInfo, ...]

    def as_json(self) -> dict[str, Any]:
        return {"runs": [as_document(it) for it in self.runs]}

    def parts(self) -> Iterator[str | Columns]:
        if not self.runs:
            yield "no runs; `continuum run` starts one"
            return
        yield Columns(HEADINGS, [row_of(it) for it in self.runs])
        unneeded = [it for it in self.runs if it.needed is None]
        size = sum(it.size_bytes for it in self.runs)
        line = f"{plural(len(self.runs), 'run')}, {format_bytes(size)}"
        if unneeded:
            free = format_bytes(sum(it.size_bytes for it in unneeded))
            line += f"; not needed: {len(unneeded):,}, {free} (`continuum prune` removes them)"
        yield line


def as_document(it: RunInfo) -> dict[str, Any]:
    """A run in the JSON document."""
    return {
        "run": it.run.name,
        "stage": it.stage,
        "state": it.state,
        "how": it.how,
        "made_at": it.made_at or None,
        "size_bytes": it.size_bytes,
        "metrics": dict(it.metrics),
        "summary": it.summary,
        "is_current": it.is_current,
        "differences": list(it.differences),
        "used_by": list(it.used_by),
        "needed": it.needed,
    }


def row_of(it: RunInfo) -> tuple[Cell, ...]:
    """A run as a row of the table."""
    losses = [f"{name} {value:.3f}" for name, value in it.metrics.items() if "loss" in name]
    return (
        f"runs/{it.run.name}",
        Styled(it.state, STYLES.get(it.state, "yellow")),
        format_age(it.age_s),
        format_bytes(it.size_bytes),
        ", ".join(losses) or it.summary or it.how,
        it.needed or Styled("nothing", "yellow"),
        "\n".join(it.differences),
    )
