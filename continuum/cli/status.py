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
from continuum.formatting import plural
from continuum.planning.in_progress import EarlierRun, find_earlier_runs
from continuum.planning.plan import PlannedStage
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.attempts import Owner
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
    how: str
    """The process that runs it, or the first line of the error that ended its last attempt."""
    note: str
    """For a run in progress: how the spec has changed since it started."""
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
    """Whether a process holds the folder."""
    owner: Owner | None
    """That process."""
    stages: tuple[StageStatus, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def columns(self) -> Columns:
        """A row for each stage."""
        rows = [
            (
                it.name,
                it.state,
                "\n".join(filter(None, (it.progress, it.how, it.note))),
                str(it.attempts),
                f"runs/{it.run}" if it.run else "",
            )
            for it in self.stages
        ]
        return Columns(("stage", "state", "progress", "attempts", "folder"), rows)

    def parts(self) -> Iterator[str | Columns]:
        yield self.columns()
        if self.owner is not None:
            yield f"in use by {self.owner}"


def _watch(opened: Opened) -> None:
    from rich.live import Live

    with Live(console=results(), auto_refresh=False, transient=True) as live:
        while opened.folder.is_locked():
            live.update(_status_of(opened).columns().drawn(), refresh=True)
            time.sleep(REDRAW_S)


def _status_of(opened: Opened) -> Status:
    plan = opened.plan()
    earlier = find_earlier_runs(plan)
    stages = [_of_stage(planned, earlier.pop(planned.name, None)) for planned in plan]
    stages += [_of_earlier(name, it) for name, it in earlier.items()]
    owner = plan.state.owner
    return Status(opened.experiment.name, owner is not None, owner, tuple(stages))


def _of_stage(planned: PlannedStage, earlier: EarlierRun | None) -> StageStatus:
    if earlier is not None and not planned.existing.is_begun:
        return _of_earlier(planned.name, earlier)
    run, state, artifact = planned.run, planned.state, planned.existing.artifact
    metrics, progress = dict[str, float](), ""
    if artifact is not None:  # do not read its rows, there may be millions
        progress = artifact.summary()
        if isinstance(artifact, TrainingCheckpoint):
            metrics = dict(artifact.metrics)
    elif metrics := _last_rows(run):
        progress = _progress(metrics, planned.forecast.num_steps)
    return StageStatus(
        planned.name,
        planned.stage.kind,
        state.state,
        state.how,
        "",
        progress,
        metrics,
        run.num_attempts,
        run.name if run.is_begun else None,
    )


def _of_earlier(name: str, it: EarlierRun) -> StageStatus:
    """The status of a run in progress that the spec does not lead to any more."""
    run, metrics = it.run, _last_rows(it.run)
    return StageStatus(
        name,
        it.record.kind,
        it.attempt.state,
        it.attempt.how,
        it.note,
        _progress(metrics, None) if metrics else "",
        metrics,
        run.num_attempts,
        run.name,
    )


def _progress(rows: dict[str, float], total: int | None) -> str:
    step = rows["step"]
    of = f"/{total:,}" if total else ""
    losses = "".join(f", {k} {rows[k]:.3f}" for k in ("loss", "val_loss") if rows.get(k))
    skipped = (
        f", {plural(number, 'step')} skipped"
        if (number := int(rows.get("skipped_steps") or 0))
        else ""
    )
    speed = f", {rows['tokens_per_s']:,.0f} tokens/s" if rows.get("tokens_per_s") else ""
    left = f", {timedelta(seconds=round(rows['eta_s']))} left" if rows.get("eta_s") else ""
    return f"step {step:,.0f}{of}{losses}{skipped}{speed}{left}"


def _last_rows(run: StageRun) -> dict[str, float]:
    """The latest value of every column of metrics.jsonl."""
    merged: dict[str, float] = {}
    for row in read_json_lines(run.metrics_path, key="step"):
        merged.update(row)
    return merged
