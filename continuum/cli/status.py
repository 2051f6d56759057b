"""`continuum status`: how far is it?"""

from rich.table import Table

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.cli.console import results
from continuum.files import read_json_lines
from continuum.plan import Action, PlannedStage
from continuum.runs import StageRun


def status(spec: Spec, overrides: Overrides = None) -> None:
    """Show every stage's state, progress and last losses, from the files in the folder."""
    opened = open_experiment(spec, overrides)
    made = opened.plan()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "state", "progress", "attempts", "folder"):
        table.add_column(heading, overflow="fold", header_style="bold")
    for planned in made:
        table.add_row(
            planned.name,
            _state(planned),
            _progress(planned),
            str(planned.run.num_attempts),
            f"runs/{planned.run.name}" if planned.run.is_begun else "",
        )
    results().print(table)


def _state(planned: PlannedStage) -> str:
    if planned.action is Action.REUSE:
        return "complete"
    if planned.action is Action.BLOCKED:
        return "blocked"
    if not planned.run.is_begun:
        return "not begun"
    attempts = planned.run.attempts()
    last = attempts[-1] if attempts else {}
    if last.get("event") == "ended":
        return str(last["status"])
    return "running or interrupted"


def _progress(planned: PlannedStage) -> str:
    run = planned.run
    if run.is_complete and planned.action is Action.REUSE:
        return run.artifact().summary()
    rows = _last_rows(run)
    if not rows:
        return ""
    total = planned.forecast.num_steps
    step = rows["step"]
    of = f"/{total:,}" if total else ""
    losses = ", ".join(f"{k} {rows[k]:.3f}" for k in ("loss", "val_loss") if rows.get(k))
    return f"step {step:,}{of}, {losses}"


def _last_rows(run: StageRun) -> dict[str, float]:
    """The newest value of every column of metrics.jsonl."""
    merged: dict[str, float] = {}
    for row in read_json_lines(run.metrics_path):
        merged.update(row)
    return merged
