"""`continuum run`: carry the experiment out."""

import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.cli.console import results
from continuum.cli.progress import PlainProgress, Progress, RichProgress
from continuum.errors import UsageError
from continuum.executor import RunResult, StopRule, run_experiment
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
    max_time: Annotated[
        str | None, typer.Option("--max-time", help="Save and stop after this long: 90s, 30m, 2h.")
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", help="Seconds a stopping stage may take to save.")
    ] = 120.0,
) -> None:
    """Run an experiment; what is complete is reused, what was interrupted goes on."""
    opened = open_experiment(spec, overrides)
    console = Console(stderr=True)
    progress: Progress = RichProgress(console) if _is_live(console, plain) else PlainProgress()
    stop = StopRule(_stop_on_signals(parse_duration(max_time)), grace_s=grace)
    with progress:
        result = run_experiment(
            opened.experiment, opened.folder, lambda: _launcher(in_process), progress.observe, stop
        )
    _ignore_signals()
    results().print(_summary(result))
    result.raise_for_failure()


def parse_duration(text: str | None) -> float | None:
    """Seconds of `90`, `90s`, `30m`, `2h`, `1d`; None stays None.

    Raises:
        UsageError: the text is none of these.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--max-time {text!r}: write 90s, 30m, 2h or 1d")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _stop_on_signals(max_time_s: float | None) -> Callable[[], bool]:
    """Let SIGINT, SIGTERM and SIGUSR1 (Slurm's warning) or the time ask for a stop.

    The second SIGINT does not wait: it raises KeyboardInterrupt.
    """
    asked = threading.Event()
    deadline = None if max_time_s is None else time.monotonic() + max_time_s

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, ask)
    return lambda: asked.is_set() or (deadline is not None and time.monotonic() > deadline)


def _ignore_signals() -> None:
    """The work has ended: a late request to stop must not cut off what is still to be said."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _launcher(in_process: bool) -> Launcher:
    if in_process:
        from continuum.launchers.inprocess import InProcessLauncher

        return InProcessLauncher()
    from continuum.launchers.automatic import AutomaticLauncher

    return AutomaticLauncher()


def _is_live(console: Console, plain: bool) -> bool:
    return console.is_terminal and not plain and sys.stdout.isatty()


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
            f"runs/{planned.run.name}" if planned.run.is_begun else "",
        )
    return table
