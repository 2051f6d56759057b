"""`continuum logs`: what a stage's process has printed, and its metrics."""

import time
from pathlib import Path
from typing import Annotated

import typer

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.errors import UsageError
from continuum.runs import ExperimentFolder
from continuum.spelling import closest

POLL_S = 0.2


def logs(
    spec: Spec,
    stage: Annotated[str, typer.Argument(help="The stage.")],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="The rows of metrics.jsonl instead of the log.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Print a stage's log, or its metrics; with -f from another terminal while it runs."""
    opened = open_experiment(spec, overrides)
    planned = opened.plan().stages.get(stage)
    if planned is None:
        near = closest(stage, opened.experiment.stages)
        raise UsageError(
            f"there is no stage {stage!r}" + (f"; did you mean {near!r}?" if near else "")
        )
    path = planned.run.metrics_path if metrics else planned.run.log_path
    if not follow:
        if not path.exists():
            raise UsageError(f"{stage} has not printed anything yet ({path} does not exist)")
        typer.echo(path.read_text(encoding="utf-8", errors="replace"), nl=False)
        return
    _follow(path, opened.folder)


def _follow(path: Path, folder: ExperimentFolder) -> None:
    """Print what is appended until nobody holds the folder any more."""
    position = 0
    while True:
        has_ended = not folder.is_locked()
        if path.exists():
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                file.seek(position)
                typer.echo(file.read(), nl=False)
                position = file.tell()
        if has_ended:
            return
        time.sleep(POLL_S)
