"""`continuum diff`: what does a change of an experiment mean?"""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from continuum.cli.console import print_json, results
from continuum.diff.compare import Diff, StageDiff, compare
from continuum.diff.markdown import WORDS, as_markdown, cost_in_words, lock_words, summary
from continuum.diff.sides import open_side
from continuum.errors import UsageError

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
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
    as_md: Annotated[
        bool, typer.Option("--md", help="Print Markdown, for a comment on a pull request.")
    ] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 10 when anything differs.")
    ] = False,
) -> None:
    """Compare two experiments: fields, stages that run again, cost, pins and metrics."""
    if as_json and as_md:
        raise UsageError("--json and --md print different things; choose one")
    with open_side(before) as first, open_side(after) as second:
        found = compare(first, second)
    if as_json:
        print_json(found.as_json())
    elif as_md:
        print(as_markdown(found))
    else:
        _print_diff(results(), found)
    if detailed_exitcode and not found.is_empty:
        raise typer.Exit(DIFFERENCES)


def _print_diff(console: Console, found: Diff) -> None:
    for change in found.experiment:
        console.print(_change(change.path, str(change), change.role))
    if any(stage.status != "same" for stage in found.stages):
        console.print(_table(found))
    for item in found.lock:
        console.print(Text(f"lock: {item.stage or 'versions'}: {lock_words(item)}"))
    console.print(summary(found), highlight=False, style="bold")


def _table(found: Diff) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "kind", "", "what changed", "cost"):
        table.add_column(heading, overflow="fold", header_style="bold")
    for stage in found.stages:
        cost = cost_in_words(dict(stage.after)) if stage in found.work else ""
        status = Text(WORDS[stage.status], style=STYLES[stage.status])
        table.add_row(stage.name, stage.kind, status, _why(stage), cost)
    return table


def _why(stage: StageDiff) -> Text:
    lines = [Text(f"renamed: {stage.was} -> {stage.name}")] if stage.was else []
    lines += [_change(change.path, str(change), change.role) for change in stage.changes]
    lines += [Text(str(cause)) for cause in stage.causes]
    return Text("\n").join(lines)


def _change(path: str, words: str, role: str) -> Text:
    text = Text(words)
    text.stylize(ROLE_STYLES[role], 0, len(path))
    return text
