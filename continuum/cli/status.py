"""`continuum status`: show the state and progress of each stage."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Opened, Overrides, Spec, open_experiment
from continuum.cli.console import AsJson, Columns, Result, results, wants_json
from continuum.errors import UsageError
from continuum.planning.plan import Action, Cause, PlannedStage
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.files import read_json_lines
from continuum.runs.folder import StageRun

REDRAW_S = 1.0


def status(
    spec: Spec,
    overrides: Overrides = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the run ends.")] = False,
    as_json: AsJson = False,
) -> "Status":
    """Show each stage's state, progress and latest losses."""
    opened = open_experiment(spec, overrides)
    if watch and wants_json():
        raise UsageError("--watch and --json cannot be used together")
    if watch:
        _watch(opened)
    return _status_of(opened)


@dataclass(frozen=True)
class StageStatus:
    """State and progress of a stage."""

    name: str
    kind: str
    state: str
    progress: str
    metrics: dict[str, float]
    """Metrics of the artifact if complete, else the latest of each in `metrics.jsonl`."""
    attempts: int
    run: str | None
    """Name of its folder below `runs/`; None if it has not begun."""


@dataclass(frozen=True)
class Status(Result):
    """State of every stage of an experiment."""

    schema = "continuum.status/1"
    experiment: str
    is_running: bool
    stages: tuple[StageStatus, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def columns(self) -> Columns:
        """A row for each stage."""
        rows = [
            (it.name, it.state, it.progress, str(it.attempts), f"runs/{it.run}" if it.run else "")
            for it in self.stages
        ]
        return Columns(("stage", "state", "progress", "attempts", "folder"), rows)

    def parts(self) -> Iterator[Columns]:
        yield self.columns()


def _watch(opened: Opened) -> None:
    from rich.live import Live

    with Live(console=results(), auto_refresh=False, transient=True) as live:
        while opened.folder.is_locked():
            live.update(_status_of(opened).columns().drawn(), refresh=True)
            time.sleep(REDRAW_S)


def _status_of(opened: Opened) -> Status:
    is_running = opened.folder.is_locked()
    stages = []
    for planned in opened.plan():
        run, metrics, progress = planned.run, dict[str, float](), ""
        if planned.action is Action.REUSE:  # do not read its rows, there may be millions
            artifact = run.artifact()
            progress = artifact.summary()
            if isinstance(artifact, TrainingCheckpoint):
                metrics = dict(artifact.metrics)
        elif metrics := _last_rows(run):
            progress = _progress(planned, metrics)
        stages.append(
            StageStatus(
                planned.name,
                planned.stage.kind,
                _state(planned, is_running),
                progress,
                metrics,
                run.num_attempts,
                run.name if run.is_begun else None,
            )
        )
    return Status(opened.experiment.name, is_running, tuple(stages))


def _state(planned: PlannedStage, is_running: bool) -> str:
    if planned.action is Action.REUSE:
        return "complete"
    if planned.action is Action.BLOCKED:
        return "blocked"
    if any(reason.code == Cause.DAMAGED for reason in planned.reasons):
        return "damaged"
    if not planned.run.is_begun:
        return "not begun"
    return planned.run.attempt_state(is_locked=is_running)


def _progress(planned: PlannedStage, rows: dict[str, float]) -> str:
    total = planned.forecast.num_steps
    step = rows["step"]
    of = f"/{total:,}" if total else ""
    losses = "".join(f", {k} {rows[k]:.3f}" for k in ("loss", "val_loss") if rows.get(k))
    skipped = f", {rows['skipped_steps']:,.0f} steps skipped" if rows.get("skipped_steps") else ""
    speed = f", {rows['tokens_per_s']:,.0f} tokens/s" if rows.get("tokens_per_s") else ""
    left = f", {timedelta(seconds=round(rows['eta_s']))} left" if rows.get("eta_s") else ""
    return f"step {step:,.0f}{of}{losses}{skipped}{speed}{left}"


def _last_rows(run: StageRun) -> dict[str, float]:
    """The latest value of every column of metrics.jsonl."""
    merged: dict[str, float] = {}
    for row in read_json_lines(run.metrics_path, key="step"):
        merged.update(row)
    return merged
