"""`continuum diff`: compare two experiments, as a table or as Markdown for a pull request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from continuum.cli.console import (
    AsJson,
    Columns,
    Result,
    Styled,
    Verbosity,
    verbosity,
    wants_json,
)
from continuum.errors import UsageError
from continuum.formatting import plural, short_digest
from continuum.lint import diagnose
from continuum.loading.diagnostics import headline
from continuum.loading.dump import in_one_line
from continuum.planning.changes import Change
from continuum.planning.costs import in_words
from continuum.planning.diff import SCHEMA, SUMMED, Diff, StageDiff, compare, open_side
from continuum.planning.highlights import field_changes
from continuum.planning.highlights import headline as highlights
from continuum.reporting.escaping import escape_markdown
from continuum.reporting.tables import markdown_rows

DIFFERENCES = 10
"""Exit code of `--detailed-exitcode` when anything differs."""
WORDS = {
    "added": "new",
    "removed": "removed",
    "again": "runs again",
    "renamed": "renamed",
    "reused": "same result",
    "same": "unchanged",
}
"""By status; a stage of the same result whose run is there is `reused`."""
GRAPH_STYLES = {
    "added": "fill:#d4f4dd,stroke:#1a7f37,color:#000",
    "removed": "fill:#eeeeee,stroke:#888888,color:#000,stroke-dasharray:4",
    "again": "fill:#ffe2d1,stroke:#bc4c00,color:#000",
    "renamed": "fill:#ddf4ff,stroke:#0969da,color:#000",
    "reused": "fill:#ddf4ff,stroke:#0969da,color:#000",
    "same": "fill:#ffffff,stroke:#888888,color:#000",
}
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
    typer.Argument(
        help="experiment.yaml, its folder, or REV:PATH of either in Git.", show_default=False
    ),
]


def diff(
    before: SideArgument,
    after: SideArgument,
    as_md: Annotated[bool, typer.Option("--md", help="Print Markdown for a pull request.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 10 when anything differs.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing; exit 10 when anything differs.")
    ] = False,
    as_json: AsJson = False,
) -> "Compared":
    """Compare two experiments: fields, stages to run again, costs, pins and metrics."""
    if wants_json() and as_md:
        raise UsageError("--json and --md cannot be used together")
    with open_side(before, diagnose) as first, open_side(after, diagnose) as second:
        found = compare(first, second)
    is_quiet = quiet or verbosity() is Verbosity.QUIET
    return Compared(found, as_md, is_quiet, detailed_exitcode or is_quiet)


@dataclass(frozen=True)
class Compared(Result):
    """Differences between two experiments."""

    schema = SCHEMA
    found: Diff
    as_md: bool
    is_quiet: bool
    detailed_exitcode: bool

    def as_json(self) -> dict[str, Any]:
        return self.found.as_json()

    def parts(self) -> Iterator[str | Styled | Columns]:
        found = self.found
        if self.as_md:
            yield as_markdown(found)
            return
        if self.is_quiet:
            return
        yield Styled(summary(found), "bold")
        yield from (Styled(str(it), ROLE_STYLES[it.change.role]) for it in field_changes(found))
        if any(stage.status != "same" for stage in found.stages):
            headings = ("stage", "kind", "status", "because of", "cost")
            yield Columns(headings, [_row(found, stage) for stage in found.stages])
        for it in found.lock:
            yield f"continuum.lock: {it.stage or 'versions'}: {lock_words(it.change)}"
        for problem in found.problems:
            yield Styled(headline(problem), "red" if problem.severity == "error" else "yellow")

    def finish(self) -> None:
        if self.detailed_exitcode and not self.found.is_empty:
            raise typer.Exit(DIFFERENCES)


def _row(found: Diff, stage: StageDiff) -> tuple[str | Styled, ...]:
    cost = in_words(stage.after, SUMMED) if stage in found.work else ""
    status = Styled(_status(stage), STYLES[stage.status])
    return stage.name, stage.kind, status, "\n".join(_causes(stage)), cost


def _status(stage: StageDiff) -> str:
    return "reused" if stage.status == "reused" and stage.has_run else WORDS[stage.status]


def _causes(stage: StageDiff) -> list[str]:
    """Why a stage differs; of its fields, which are listed with their values, only the names."""
    lines = [f"renamed: {stage.was} -> {stage.name}"] if stage.was else []
    fields = ", ".join(change.name for change in stage.changes)
    return [*lines, *([fields] if fields else []), *map(str, stage.causes)]


def as_markdown(diff: Diff) -> str:
    """The differences as a comment on a pull request, with a graph of the affected stages."""
    return "\n".join([f"### continuum diff `{diff.before}` → `{diff.after}`", "", *_body(diff), ""])


def summary(diff: Diff) -> str:
    """One sentence: what changed, the stages to run, their cost, and how many are reused."""
    if diff.is_empty:
        return "no differences"
    cost = in_words(diff.work_cost(), SUMMED)
    change = in_words(diff.total_change(), SUMMED, signed=True)
    rest = [stage for stage in diff.stages if stage.status in ("renamed", "reused", "same")]
    reused = sum(stage.has_run for stage in rest)
    parts = [
        highlights(diff),
        _work(diff) + (f" ({cost})" if cost else ""),
        f"{reused} reused" if reused else "",
        f"{len(rest) - reused} unchanged" if len(rest) > reused else "",
        f"total cost changes by {change}" if change else "",
    ]
    return "; ".join(filter(None, parts))


def _work(diff: Diff) -> str:
    """`3 stages run again: a, b, c`; those that ran already are counted."""
    again = [stage.name for stage in diff.work if stage.status == "again"]
    new = [stage.name for stage in diff.work if stage.status == "added"]
    parts = []
    if again:
        verb = "runs" if len(again) == 1 else "run"
        parts.append(f"{plural(len(again), 'stage')} {verb} again: {', '.join(again)}")
    if new:
        parts.append(f"{plural(len(new), 'new stage')} to run: {', '.join(new)}")
    done = sum(stage.has_run for stage in diff.work)
    counted = f", {done} of which ran already" if done else ""
    return (" and ".join(parts) or "no stage to run") + counted


def lock_words(change: Change) -> str:
    """`val_loss 4.26 -> 4.1 (-0.16)`."""
    if change.what in ("artifact", "pin"):
        name = "artifact" if change.what == "artifact" else f"{change.name}:"
        return f"{name} {short_digest(change.old)} -> {short_digest(change.new)}"
    old, new = (("(none)" if value is None else value) for value in (change.old, change.new))
    delta = ""
    if isinstance(change.old, (int, float)) and isinstance(change.new, (int, float)):
        delta = f" ({change.new - change.old:+.4g})"
    return f"{change.name} {old} -> {new}{delta}"


def _body(diff: Diff) -> Iterator[str]:
    yield f"**{_sentence(summary(diff))}**"
    if diff.is_empty and not diff.problems:
        return
    yield ""
    yield from _problem_list(diff)
    yield from _graph(diff)
    yield from _stage_table(diff)
    yield from _field_table(diff)
    yield from _lock_table(diff)


def _problem_list(diff: Diff) -> Iterator[str]:
    for it in diff.problems:
        yield f"- `{it.place}`: {it.severity} {it.code}: {escape_markdown(it.message)}"
    if diff.problems:
        yield ""


def _stage_table(diff: Diff) -> Iterator[str]:
    rows = []
    for stage in (stage for stage in diff.stages if stage.status != "same"):
        cost = in_words(stage.after, SUMMED) if stage in diff.work else ""
        reasons = "<br>".join(map(escape_markdown, _causes(stage)))
        rows.append((f"`{stage.name}`", _status(stage), reasons, cost))
    return _rows(("stage", "status", "because of", "cost"), rows)


def _field_table(diff: Diff) -> Iterator[str]:
    rows = [
        (f"`{it.path}`", _code(it.change.old), _code(it.change.new), it.change.role)
        for it in field_changes(diff)
    ]
    return _rows(("field", "before", "after", "role"), rows)


def _lock_table(diff: Diff) -> Iterator[str]:
    rows = [
        (it.stage or "versions", it.what, escape_markdown(lock_words(it.change)))
        for it in diff.lock
        if it.what != "artifact"
    ]
    return _rows(("continuum.lock", "kind", "change"), rows)


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table; nothing if it has no rows."""
    if rows:
        yield from markdown_rows(headings, rows)
        yield ""


def _graph(diff: Diff) -> Iterator[str]:
    """The affected stages and their direct inputs."""
    by_name = {stage.name: stage for stage in diff.stages}
    shown = {stage.name for stage in diff.stages if stage.status != "same"}
    shown |= {parent for name in shown for parent in by_name[name].parents if parent in by_name}
    if not shown:
        return
    ids = {stage.name: f"s{number}" for number, stage in enumerate(diff.stages)}
    yield "```mermaid"
    yield "graph LR"
    for stage in diff.stages:
        if stage.name in shown:
            yield f'  {ids[stage.name]}["{stage.name}<br>{stage.kind}"]:::{stage.status}'
    for stage in diff.stages:
        for parent in _edges(stage, shown):
            yield f"  {ids[parent]} --> {ids[stage.name]}"
    for status in dict.fromkeys(stage.status for stage in diff.stages if stage.name in shown):
        yield f"  classDef {status} {GRAPH_STYLES[status]}"
    yield "```"
    yield ""


def _edges(stage: StageDiff, shown: set[str]) -> list[str]:
    return [parent for parent in stage.parents if parent in shown] if stage.name in shown else []


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _code(value: object) -> str:
    """A value as code in a table cell."""
    text = " ".join(in_one_line(value).split()).replace("|", "\\|").replace("`", "'")
    return f"`{text}`"
