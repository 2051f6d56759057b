"""`continuum plan`: show what a run would do, and why."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continuum.cli.arguments import (
    Locked,
    Opened,
    Overrides,
    Rerun,
    Spec,
    open_experiment,
    stage_of,
)
from continuum.cli.console import AsJson, Columns, Result, Styled
from continuum.cli.output_file import refuse_folder, write_output
from continuum.experiment.forecast import Facts
from continuum.formatting import format_bytes, format_flops, format_seconds, plural
from continuum.lint import diagnose
from continuum.loading.diagnostics import Diagnostic, headline
from continuum.loading.diagnostics import as_document as as_findings
from continuum.planning.approval import check_problems
from continuum.planning.changes import Change
from continuum.planning.costs import Cost, estimate_costs, in_words, total
from continuum.planning.in_progress import find_earlier_runs
from continuum.planning.locked_run import check_locked
from continuum.planning.plan import Action, Cause, Plan, PlannedStage, Reason, Request
from continuum.planning.plan_file import SCHEMA, as_document, refuse_secrets
from continuum.runs.artifacts import Checkpoint, TokenizedDataset
from continuum.runs.files import json_text

if TYPE_CHECKING:
    from rich.tree import Tree

CHANGES_PENDING = 10
"""Exit code of `--detailed-exitcode` when a run would do something."""
MAX_GENERATIONS = 100
"""Depth of the tree; its last line names the stage to ask for next."""
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
        typer.Option(
            "--why",
            metavar="STAGE",
            help="Explain the action for one stage, back to the first causes.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Save the plan as JSON, for `run --plan`."),
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit 10 if there is something to do."),
    ] = False,
    as_json: AsJson = False,
) -> "Planned":
    """Show what a run would do: each stage's action, reasons and cost. Runs nothing."""
    if out is not None:
        refuse_folder(out)
    opened = open_experiment(spec, overrides)
    made = opened.plan(Request(tuple(overrides or ()), frozenset(rerun or ()), locked))
    found = diagnose(opened.loaded, made, to_run=True)
    return Planned(opened, made, found, why, out, detailed_exitcode)


@dataclass(frozen=True)
class Planned(Result):
    """A plan, as a table or as the tree of one stage's reasons."""

    schema = SCHEMA
    opened: Opened
    plan: Plan
    found: tuple[Diagnostic, ...]
    why: str | None
    out: Path | None
    detailed_exitcode: bool

    def as_json(self) -> dict[str, Any]:
        """The plan, with its errors and warnings in the form of `validate`."""
        return {**as_document(self.plan), "findings": as_findings(self.found)["diagnostics"]}

    def parts(self) -> "Iterable[str | Styled | Columns | Tree]":
        return _table(self.plan, self.found) if self.why is None else [_tree(self.plan, self.why)]

    def finish(self) -> None:
        """Refuse what a run would refuse, save --out, exit 10 for --detailed-exitcode."""
        made = self.plan
        loaded = self.opened.loaded
        check_problems(made, loaded, "a run would be refused", on_this_machine=False)
        if made.request.locked:
            check_locked(made)
        if self.out is not None:
            refuse_secrets(made.request)
            write_output(self.out, json_text(self.as_json()))
        if self.detailed_exitcode and made.has_work:
            changing = [planned.name for planned in made if planned.action is not Action.REUSE]
            typer.echo(f"to do: {', '.join(changing)}", err=True)
            raise typer.Exit(CHANGES_PENDING)


def plan_columns(made: Plan, costs: Mapping[str, Cost]) -> Columns:
    """A table of the stages with their actions, reasons and sizes."""
    rows = [
        (
            planned.name,
            planned.stage.kind,
            Styled(planned.action.value, STYLES[planned.action]),
            "\n".join(map(str, planned.reasons)),
            _size(planned, costs[planned.name].figures),
        )
        for planned in made
    ]
    return Columns(("stage", "kind", "action", "reasons", "size"), rows)


def _table(made: Plan, found: Iterable[Diagnostic]) -> Iterator[str | Styled | Columns]:
    costs = estimate_costs(made)
    yield plan_columns(made, costs)
    sums = (total(costs), total(costs, with_checked=True))
    sure, at_most = (in_words(it, ("tokens", "flops", "seconds")) for it in sums)
    if at_most:
        rest = f"; at most {at_most}" if at_most != sure else ""
        yield f"to do: {sure or 'nothing for certain'}{rest}"
    if made.state.owner is not None:
        yield f"in use by {made.state.owner}: a run is refused until it ends"
    for name, it in find_earlier_runs(made).items():
        yield f"{name}: {it.attempt} (runs/{it.run.name}); {it.note}"
    for planned in made:
        yield from (f"{planned.name}: {note}" for note in planned.forecast.notes)
    yield from (Styled(headline(it), "yellow") for it in found if it.severity == "warning")


def _tree(made: Plan, name: str) -> "Tree":
    """A stage's reasons; below each input stage among them, the reasons of that stage.

    Raises:
        UsageError: there is no such stage.
    """
    from rich.text import Text
    from rich.tree import Tree

    planned, shown = stage_of(made, name), {name}

    def headline_of(planned: PlannedStage) -> Text:
        action = (planned.action.value, STYLES[planned.action])
        return Text.assemble((planned.name, "bold"), f" ({planned.stage.kind}): ", action)

    def grow(tree: Tree, planned: PlannedStage, generations: int) -> None:
        if not generations:
            tree.add(f"… more with `continuum plan SPEC --why {planned.name}`")
            return
        for reason in planned.reasons:
            branch = tree.add(Text(str(reason)))
            parent = _stage_of(reason)
            if parent in made.stages and parent not in shown:
                shown.add(parent)
                above = made.stages[parent]
                grow(branch.add(headline_of(above)), above, generations - 1)

    tree = Tree(headline_of(planned))
    tree.add(Text(f"fingerprint {planned.fingerprint}, folder runs/{planned.run.name}", "dim"))
    grow(tree, planned, MAX_GENERATIONS)
    return tree


def _stage_of(reason: Reason | Change) -> str:
    """The input stage that a reason refers to; empty for none."""
    if isinstance(reason, Change):
        return reason.name.partition("@")[0] if reason.what == "input" else ""
    points = reason.cause in (Cause.UPSTREAM_RUNS_AGAIN, Cause.WAITS_FOR)
    return str(reason.detail).partition("@")[0] if points else ""


def _facts(planned: PlannedStage) -> Facts:
    """The facts of the forecast; of a complete stage, sizes as recorded."""
    facts, artifact = planned.forecast.facts, planned.existing.artifact
    if planned.action is not Action.REUSE or not isinstance(artifact, Checkpoint):
        return facts
    found, size = Facts(**facts), sum(file.size_bytes for file in artifact.files)
    if "weights_bytes" in facts:
        found["weights_bytes"] = size
    if "checkpoints" in facts:
        found["checkpoint_bytes"] = size
        found["checkpoints_kept"] = len(planned.run.checkpoint_names())
    return found


def _size(planned: PlannedStage, cost: Mapping[str, int | float]) -> str:
    """Describe the size of a stage, as far as it is known."""
    facts, words = _facts(planned), []
    if planned.stage.trains and "steps" not in facts and planned.action is not Action.REUSE:
        missing = [ref.stage for ref in planned.refs if ref.expects is TokenizedDataset]
        words.append(f"steps: known after {', '.join(missing)}" if missing else "steps: unknown")
    if "steps" in facts:
        words.append(plural(facts["steps"], "step"))
        words.append(plural(facts["tokens"], "token"))
        words.append(f"{facts['warmup_steps']:,} warm-up")
    if "epochs" in facts:
        words.append(plural(facts["epochs"], "epoch"))
    if "checkpoints" in facts:
        size = format_bytes(facts.get("checkpoint_bytes"))
        kept = facts.get("checkpoints_kept", facts["checkpoints"])
        few = f" ({kept} kept)" if kept < facts["checkpoints"] else ""
        of = f" of {size}" if size else ""
        words.append(f"{plural(facts['checkpoints'], 'checkpoint')}{of}{few}")
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
