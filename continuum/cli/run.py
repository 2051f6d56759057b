"""`continuum run`: carry the experiment out."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.cli.console import results
from continuum.cli.progress import PlainProgress, Progress, RichProgress
from continuum.errors import StoppedError
from continuum.executor import RunResult, run_experiment
from continuum.launchers import Launcher
from continuum.plan import Action

STYLES = {"done": "green", "reused": "dim", "not reached": "yellow"}


def run(
    spec: Spec,
    overrides: Overrides = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain lines instead of a live display.")
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run stages in this process, for debugging.")
    ] = False,
) -> None:
    """Run an experiment; what is complete is reused, what was interrupted goes on."""
    opened = open_experiment(spec, overrides)
    console = Console(stderr=True)
    progress: Progress = RichProgress(console) if _is_live(console, plain) else PlainProgress()
    _stop_on_sigterm()
    try:
        with progress:
            result = run_experiment(
                opened.experiment, opened.folder, lambda: _launcher(in_process), progress.observe
            )
    except KeyboardInterrupt:
        raise StoppedError("stopped; the same command goes on from the last checkpoint") from None
    results().print(_summary(result))
    result.raise_for_failure()


def _launcher(in_process: bool) -> Launcher:
    if in_process:
        from continuum.launchers.inprocess import InProcessLauncher

        return InProcessLauncher()
    from continuum.launchers.local import LocalLauncher

    return LocalLauncher()


def _is_live(console: Console, plain: bool) -> bool:
    return console.is_terminal and not plain and sys.stdout.isatty()


def _stop_on_sigterm() -> None:
    """Let SIGTERM and SIGUSR1 (Slurm's warning) do what Ctrl-C does: save, then end."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGUSR1, interrupt)


def _summary(result: RunResult) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "kind", "result", "made", "folder"):
        table.add_column(heading, overflow="fold", header_style="bold")
    for planned in result.plan:
        outcome = result.outcomes.get(planned.name)
        unreached = "reused" if planned.action is Action.REUSE else "not reached"
        status: str = outcome.status if outcome is not None else unreached
        made = planned.run.artifact().summary() if planned.run.is_complete else ""
        table.add_row(
            planned.name,
            planned.stage.kind,
            Text(status, style=STYLES.get(status, "red")),
            made,
            f"runs/{planned.run.name}",
        )
    return table
