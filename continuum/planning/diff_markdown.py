"""A diff as Markdown: a comment for a pull request, with a Mermaid graph of what is affected."""

from collections.abc import Iterator, Sequence

from continuum.formatting import short_digest
from continuum.loading.dump import in_one_line
from continuum.planning.changes import Change
from continuum.planning.costs import in_words
from continuum.planning.diff import DOES_WORK, SUMMED, Diff, StageDiff

WORDS = {
    "added": "new",
    "removed": "removed",
    "again": "runs again",
    "renamed": "renamed",
    "reused": "reused",
    "same": "unchanged",
}
COLOURS = {
    "added": "fill:#d4f4dd,stroke:#1a7f37,color:#000",
    "removed": "fill:#eeeeee,stroke:#888888,color:#000,stroke-dasharray:4",
    "again": "fill:#ffe2d1,stroke:#bc4c00,color:#000",
    "renamed": "fill:#ddf4ff,stroke:#0969da,color:#000",
    "reused": "fill:#ddf4ff,stroke:#0969da,color:#000",
    "same": "fill:#ffffff,stroke:#888888,color:#000",
}


def as_markdown(diff: Diff) -> str:
    """The whole comment."""
    return "\n".join([f"### continuum diff `{diff.before}` → `{diff.after}`", "", *_body(diff), ""])


def summary(diff: Diff) -> str:
    """One sentence: what runs again, what it takes, what is reused."""
    if diff.is_empty:
        return "nothing differs"
    work = [stage.name for stage in diff.work]
    reused = sum(stage.status in ("renamed", "reused", "same") for stage in diff.stages)
    words = f"{len(work)} stage(s) to run: {', '.join(work)}" if work else "no stage runs again"
    cost = in_words(diff.work_cost(), SUMMED)
    change = in_words(diff.total_change(), SUMMED, signed=True)
    return (
        words
        + (f" ({cost})" if cost else "")
        + f"; {reused} reused"
        + (f"; the whole experiment changes by {change}" if change else "")
    )


def lock_words(change: Change) -> str:
    """`val_loss 4.26 -> 4.1 (-0.16)`, without the stage's name."""
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
    """The problems that the change brings in, with their places."""
    for it in diff.problems:
        yield f"- `{it.place}`: {it.severity} {it.code}: {_escape(it.message)}"
    if diff.problems:
        yield ""


def _stage_table(diff: Diff) -> Iterator[str]:
    rows = []
    for stage in (stage for stage in diff.stages if stage.status != "same"):
        why = [str(change) for change in stage.changes if change.role == "identity"]
        why += [str(cause) for cause in stage.causes]
        why += [f"renamed: {stage.was} -> {stage.name}"] if stage.was else []
        cost = in_words(stage.after, SUMMED) if stage.status in DOES_WORK else ""
        rows.append((f"`{stage.name}`", WORDS[stage.status], "<br>".join(map(_escape, why)), cost))
    return _rows(("stage", "", "why", "cost"), rows)


def _field_table(diff: Diff) -> Iterator[str]:
    found = [("", change) for change in diff.experiment]
    found += [(f"stages.{s.name}.", change) for s in diff.stages for change in s.changes]
    rows = [(f"`{at}{it.name}`", _code(it.old), _code(it.new), it.role) for at, it in found]
    return _rows(("field", "before", "after", "role"), rows)


def _lock_table(diff: Diff) -> Iterator[str]:
    rows = [
        (it.stage or "versions", it.what, _escape(lock_words(it.change)))
        for it in diff.lock
        if it.what != "artifact"
    ]
    return _rows(("lock", "", ""), rows)


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table; nothing without rows."""
    if rows:
        for cells in (headings, ["---"] * len(headings), *rows):
            yield f"| {' | '.join(cells)} |"
        yield ""


def _graph(diff: Diff) -> Iterator[str]:
    """The affected stages and, for context, what they hang on directly."""
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
        yield f"  classDef {status} {COLOURS[status]}"
    yield "```"
    yield ""


def _edges(stage: StageDiff, shown: set[str]) -> list[str]:
    return [parent for parent in stage.parents if parent in shown] if stage.name in shown else []


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _escape(text: str) -> str:
    """Text that stays inside its table cell and is no markup."""
    for letter in ("\\", "|", "`", "*", "_", "<", ">"):
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def _code(value: object) -> str:
    """A value as code, inside a table cell."""
    text = " ".join(in_one_line(value).split()).replace("|", "\\|").replace("`", "'")
    return f"`{text}`"
