"""`continuum plan`: what a run would do, and why."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.cli.console import results
from continuum.errors import PreflightError
from continuum.plan import Action, Plan

STYLES = {
    Action.RUN: "bold green",
    Action.RECOVER: "bold yellow",
    Action.CHECK: "yellow",
    Action.REUSE: "dim",
    Action.BLOCKED: "bold red",
}


def plan(spec: Spec, overrides: Overrides = None) -> None:
    """Show what a run would do: each stage's action, the reason, and its size. Writes nothing."""
    opened = open_experiment(spec, overrides)
    made = opened.plan()
    console = results()
    console.print(plan_table(made))
    for planned in made:
        for warning in planned.forecast.warnings:
            console.print(Text(f"warning: {planned.name}: {warning}", style="yellow"))
    if made.problems:
        listed = "\n".join(f"  - {problem}" for problem in made.problems)
        raise PreflightError(f"a run would be refused:\n{listed}")


def plan_table(made: Plan) -> Table:
    """Stages with their actions, reasons and sizes."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "kind", "action", "why", "size"):
        table.add_column(heading, overflow="fold", header_style="bold")
    for planned in made:
        table.add_row(
            planned.name,
            planned.stage.kind,
            Text(planned.action.value, style=STYLES[planned.action]),
            "\n".join(map(str, planned.reasons)),
            _size(planned.forecast.facts),
        )
    return table


def _size(facts: Mapping[str, object]) -> str:
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
    return ", ".join(words)


def format_bytes(size: object) -> str:
    """`1.3 GB`; empty for None."""
    if not isinstance(size, (int, float)):
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
