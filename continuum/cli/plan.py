"""`continuum plan`: what a run would do, and why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Locked, Opened, Overrides, Rerun, Spec, open_experiment
from continuum.cli.columns import Columns, Styled, show_line
from continuum.cli.console import print_json
from continuum.cli.output import refuse_folder, write_output
from continuum.costs import Cost, estimate_costs, total
from continuum.errors import PreflightError
from continuum.figures import format_bytes, format_flops, format_seconds
from continuum.files import json_text
from continuum.lint import lint
from continuum.locking import check_locked
from continuum.plan import Action, Plan, Request
from continuum.plan_document import as_document
from continuum.spec.diagnostics import as_document as as_findings
from continuum.spec.diagnostics import headline

CHANGES_PENDING = 10
"""Exit code of `--detailed-exitcode` when a run would do something."""
STYLES = {
    Action.RUN: "bold green",
    Action.RECOVER: "bold yellow",
    Action.CHECK: "yellow",
    Action.REUSE: "dim",
    Action.BLOCKED: "bold red",
}


def plan(
    spec: Spec,
    overrides: Overrides = None,
    rerun: Rerun = None,
    locked: Locked = False,
    why: Annotated[
        str | None,
        typer.Option("--why", metavar="STAGE", help="Explain one stage, down to the first causes."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as a JSON document.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write that document here, for `run --plan`."),
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit 10 when there is something to do."),
    ] = False,
) -> None:
    """Show what a run would do: each stage's action, the reason, its cost. Runs nothing."""
    if out is not None:
        refuse_folder(out)
    opened = open_experiment(spec, overrides)
    made = opened.plan(Request(tuple(overrides or ()), frozenset(rerun or ()), locked))
    document = _document(opened, made) if as_json or out is not None else None
    if as_json and document is not None:
        print_json(document)
    elif why is not None:
        from continuum.cli.why import show_reasons  # draws with rich

        show_reasons(made, why)
    else:
        _show_plan(opened, made)
    if made.problems:
        listed = "\n".join(f"  - {problem.path[1]}: {problem}" for problem in made.problems)
        raise PreflightError(f"a run would be refused:\n{listed}")
    if locked:
        check_locked(made)
    if out is not None:
        write_output(out, json_text(document))
    if detailed_exitcode and made.has_work:
        changing = [planned.name for planned in made if planned.action is not Action.REUSE]
        typer.echo(f"not reused as they are: {', '.join(changing)}", err=True)
        raise typer.Exit(CHANGES_PENDING)


def _document(opened: Opened, made: Plan) -> dict[str, Any]:
    """The plan, and what `validate` says of the spec, in its form."""
    found = as_findings(lint(opened.document, made))["diagnostics"]
    return {**as_document(made), "findings": found}


def plan_columns(made: Plan, costs: Mapping[str, Cost]) -> Columns:
    """Stages with their actions, reasons and sizes."""
    rows = [
        (
            planned.name,
            planned.stage.kind,
            Styled(planned.action.value, STYLES[planned.action]),
            "\n".join(map(str, planned.reasons)),
            _size(planned.forecast.facts, costs[planned.name].figures),
        )
        for planned in made
    ]
    return Columns(("stage", "kind", "action", "why", "size"), rows)


def _show_plan(opened: Opened, made: Plan) -> None:
    costs = estimate_costs(made)
    plan_columns(made, costs).show()
    sure, at_most = _in_all(total(costs)), _in_all(total(costs, with_checked=True))
    if at_most:
        rest = f"; at most {at_most}" if at_most != sure else ""
        show_line(f"to do: {sure or 'nothing that is sure'}{rest}")
    for planned in made:
        for note in planned.forecast.notes:
            show_line(f"{planned.name}: {note}")
    for finding in lint(opened.document, made):
        show_line(headline(finding), "yellow")
    for planned in made:
        for warning in planned.forecast.warnings:
            show_line(f"warning: {planned.name}: {warning}", "yellow")


def _in_all(sums: Mapping[str, int | float]) -> str:
    words = []
    if "tokens" in sums:
        words.append(f"{sums['tokens']:,} training tokens")
    if "flops" in sums:
        words.append(format_flops(sums["flops"]))
    if "seconds" in sums:
        words.append(f"{format_seconds(sums['seconds'])} at the speed of earlier runs")
    return ", ".join(words)


def _size(facts: Mapping[str, object], cost: Mapping[str, int | float]) -> str:
    """What a stage will take, in words: only what is known."""
    words = []
    if "steps" in facts:
        words.append(f"{facts['steps']:,} steps")
        words.append(f"{facts['tokens']:,} tokens")
        words.append(f"{facts['warmup_steps']:,} warm-up")
    if "epochs" in facts:
        words.append(f"{facts['epochs']:g} epochs")
    if "checkpoints" in facts:
        size = format_bytes(facts.get("checkpoint_bytes"))
        words.append(f"{facts['checkpoints']} checkpoints{' of ' + size if size else ''}")
    if "weights_bytes" in facts:
        words.append(format_bytes(facts["weights_bytes"]))
    if "tied_embeddings" in facts:
        words.append(
            "tied embeddings" if facts["tied_embeddings"] == "yes" else "untied embeddings"
        )
    if "flops" in cost:
        words.append(format_flops(cost["flops"]))
    if "memory_bytes" in cost:
        words.append(f"{format_bytes(cost['memory_bytes'])} of memory")
    if "seconds" in cost:
        words.append(f"about {format_seconds(cost['seconds'])}")
    return ", ".join(words)
