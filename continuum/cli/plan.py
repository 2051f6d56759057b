"""`continuum plan`: what a run would do, and why."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.errors import PreflightError
from continuum.plan import Action, Plan

STYLES = {
    Action.RUN: "bold green",
    Action.RECOVER: "bold yellow",
    Action.REUSE: "dim",
    Action.BLOCKED: "bold red",
}


def plan(spec: Spec, overrides: Overrides = None) -> None:
    """Show what a run would do: each stage's action, the reason, and its size. Writes nothing."""
    opened = open_experiment(spec, overrides)
    made = opened.plan()
    console = Console()
    console.print(plan_table(made))
    for planned in made:
        for warning in planned.forecast.warnings:
            console.print(Text(f"warning: {planned.name}: {warning}", style="yellow"))
    if made.problems:
        listed = "\n".join(f"  - {problem}" for problem in made.problems)
        raise PreflightError(f"a run would be refused:\n{listed}")


def plan_table(made: Plan) -> Table:
    """Stages with their actions, reasons and sizes."""
    table = Table(title=f"plan of {made.experiment.name}", title_justify="left")
    for heading in ("stage", "kind", "action", "why"):
        table.add_column(heading, overflow="fold")
    for heading in ("steps", "tokens", "warm-up", "saves", "bytes each"):
        table.add_column(heading, justify="right")
    for planned in made:
        facts = planned.forecast.facts
        table.add_row(
            planned.name,
            planned.stage.kind,
            Text(planned.action.value, style=STYLES[planned.action]),
            "\n".join(planned.reasons),
            _count(facts.get("steps")),
            _count(facts.get("tokens")),
            _count(facts.get("warmup_steps")),
            _count(facts.get("checkpoints")),
            format_bytes(facts.get("checkpoint_bytes") or facts.get("weights_bytes")),
        )
    return table


def format_bytes(size: object) -> str:
    """`1.3 GB`; empty for None."""
    if not isinstance(size, (int, float)):
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else ""
