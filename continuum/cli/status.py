"""`continuum status`: how far is it?"""

import time
from datetime import timedelta
from typing import Annotated

import typer

from continuum.cli.arguments import Opened, Overrides, Spec, open_experiment
from continuum.cli.columns import Columns
from continuum.cli.console import results
from continuum.files import read_json_lines
from continuum.plan import Action, PlannedStage
from continuum.reasons import ArtifactDamaged
from continuum.runs import StageRun

REDRAW_S = 1.0


def status(
    spec: Spec,
    overrides: Overrides = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Draw it anew until the run has ended.")
    ] = False,
) -> None:
    """Show every stage's state, progress and last losses, from the folder's files."""
    opened = open_experiment(spec, overrides)
    if not watch:
        _columns(opened).show()
        return
    from rich.live import Live

    with Live(_columns(opened).drawn(), console=results(), auto_refresh=False) as live:
        while opened.folder.is_locked():
            time.sleep(REDRAW_S)
            live.update(_columns(opened).drawn(), refresh=True)


def _columns(opened: Opened) -> Columns:
    is_running = opened.folder.is_locked()
    rows = [
        (
            planned.name,
            _state(planned, is_running),
            _progress(planned),
            str(planned.run.num_attempts),
            f"runs/{planned.run.name}" if planned.run.is_begun else "",
        )
        for planned in opened.plan()
    ]
    return Columns(("stage", "state", "progress", "attempts", "folder"), rows)


def _state(planned: PlannedStage, is_running: bool) -> str:
    if planned.action is Action.REUSE:
        return "complete"
    if planned.action is Action.BLOCKED:
        return "blocked"
    if any(isinstance(reason, ArtifactDamaged) for reason in planned.reasons):
        return "damaged"
    if not planned.run.is_begun:
        return "not begun"
    attempts = planned.run.attempts()
    last = attempts[-1] if attempts else {}
    if last.get("event") == "ended":
        return str(last["status"])
    return "running" if is_running else "interrupted"


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
    losses = "".join(f", {k} {rows[k]:.3f}" for k in ("loss", "val_loss") if rows.get(k))
    skipped = f", {rows['skipped_steps']:,.0f} steps skipped" if rows.get("skipped_steps") else ""
    speed = f", {rows['tokens_per_s']:,.0f} tokens/s" if rows.get("tokens_per_s") else ""
    left = f", {timedelta(seconds=round(rows['eta_s']))} left" if rows.get("eta_s") else ""
    return f"step {step:,.0f}{of}{losses}{skipped}{speed}{left}"


def _last_rows(run: StageRun) -> dict[str, float]:
    """The newest value of every column of metrics.jsonl."""
    merged: dict[str, float] = {}
    for row in read_json_lines(run.metrics_path, key="step"):
        merged.update(row)
    return merged
