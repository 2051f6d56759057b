"""`continuum diff`: what does a change of an experiment mean?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from continuum.cli.console import Columns, Result, Styled, wants_json
from continuum.errors import UsageError
from continuum.lint import diagnose
from continuum.loading.diagnostics import headline
from continuum.planning.costs import in_words
from continuum.planning.diff import SCHEMA, SUMMED, Diff, StageDiff, compare
from continuum.planning.diff_markdown import WORDS, as_markdown, lock_words, summary
from continuum.planning.diff_sides import open_side

DIFFERENCES = 10
"""Exit code of `--detailed-exitcode` when anything differs."""
STYLES = {
    "added": "bold green",
    "removed": "bold red",
    "again": "bold yellow",
    "renamed": "cyan",
    "reused": "cyan",
    "same": "dim",
}
ROLE_STYLES = {
    "identity": "bold",
    "runtime": "cyan",
    "cosmetic": "dim",
    "location": "dim",
    "spelling": "dim",
}
SideArgument = Annotated[
    str,
    typer.Argument(help="A spec, its folder, or REV:PATH of either in Git.", show_default=False),
]


def diff(
    before: SideArgument,
    after: SideArgument,
    as_md: Annotated[
        bool, typer.Option("--md", help="Print Markdown, for a comment on a pull request.")
    ] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 10 when anything differs.")
    ] = False,
) -> "Compared":
    """Compare two experiments: fields, stages that run again, cost, pins and metrics."""
    if wants_json() and as_md:
        raise UsageError("--json and --md print different things; choose one")
    with open_side(before, diagnose) as first, open_side(after, diagnose) as second:
        found = compare(first, second)
    return Compared(found, as_md, detailed_exitcode)


@dataclass(frozen=True)
class Compared(Result):
    """The differences of two experiments, as a table or as Markdown."""

    schema = SCHEMA
    found: Diff
    as_md: bool
    detailed_exitcode: bool

    def as_json(self) -> dict[str, Any]:
        return self.found.as_json()

    def parts(self) -> Iterator[str | Styled | Columns]:
        found = self.found
        if self.as_md:
            yield as_markdown(found)
            return
        yield from (Styled(str(it), ROLE_STYLES[it.role]) for it in found.experiment)
        if any(stage.status != "same" for stage in found.stages):
            headings = ("stage", "kind", "", "what changed", "cost")
            yield Columns(headings, [_row(found, stage) for stage in found.stages])
        yield from (f"lock: {it.stage or 'versions'}: {lock_words(it.change)}" for it in found.lock)
        for problem in found.problems:
            yield Styled(headline(problem), "red" if problem.severity == "error" else "yellow")
        yield Styled(summary(found), "bold")

    def finish(self) -> None:
        if self.detailed_exitcode and not self.found.is_empty:
            raise typer.Exit(DIFFERENCES)


def _row(found: Diff, stage: StageDiff) -> tuple[str | Styled, ...]:
    lines = [f"renamed: {stage.was} -> {stage.name}"] if stage.was else []
    lines += map(str, (*stage.changes, *stage.causes))
    cost = in_words(stage.after, SUMMED) if stage in found.work else ""
    status = Styled(WORDS[stage.status], STYLES[stage.status])
    return stage.name, stage.kind, status, "\n".join(lines), cost
