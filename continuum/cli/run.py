"""`continuum run`: carry the experiment out."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from pydantic_core import PydanticCustomError

from continuum.cli.arguments import Locked, Overrides, Rerun, Spec, UnsafeLocks, open_experiment
from continuum.cli.console import Columns, Result, Styled, Verbosity, verbosity
from continuum.cli.progress import PlainProgress, Progress, SilentProgress
from continuum.errors import UsageError
from continuum.execution.executor import StopRule, run_experiment
from continuum.execution.launchers import Launcher
from continuum.execution.results import RunResult
from continuum.experiment.amounts import parse_duration as parse_seconds
from continuum.planning.other_specs import refuse_second_spec
from continuum.planning.plan import NOTHING_MORE, Action, Plan, PlannedStage, Request
from continuum.planning.plan_file import AgreedPlan, read_document

STYLES = {"done": "green", "reused": "dim", "not reached": "yellow"}


def run(
    spec: Spec,
    overrides: Overrides = None,
    rerun: Rerun = None,
    locked: Locked = False,
    plan_path: Annotated[
        Path | None,
        typer.Option("--plan", help="Do exactly what this plan says, or exit 6."),
    ] = None,
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
    unsafe_locks: UnsafeLocks = False,
) -> "Done":
    """Run an experiment. Reuses completed stages and resumes interrupted ones."""
    request = Request(tuple(overrides or ()), frozenset(rerun or ()), locked)
    agreed = _agreed_plan(plan_path, request)
    request = agreed.request if agreed is not None else request
    opened = open_experiment(spec, list(request.overrides))

    def approve(plan: Plan) -> None:
        refuse_second_spec(plan, opened.files)
        opened.refuse(plan, "nothing was started")
        if agreed is not None:
            agreed.check(plan)

    progress = _progress(plain)
    stop = StopRule(_stop_on_signals(parse_duration(max_time)), grace_s=grace)
    with progress:
        result = run_experiment(
            opened.experiment,
            opened.folder,
            _in_process if in_process else _in_processes,
            progress.observe,
            stop,
            request,
            approve,
            opened.files,
            unsafe_locks=unsafe_locks,
        )
    _ignore_signals()
    return Done(result)


@dataclass(frozen=True)
class Done(Result):
    """What became of every stage."""

    schema = "continuum.run/1"
    result: RunResult

    def as_json(self) -> dict[str, Any]:
        stages = []
        for planned in self.result.plan:
            outcome, run = self.result.outcomes.get(planned.name), planned.run
            artifact = run.artifact() if run.is_complete else None
            stages.append(
                {
                    "name": planned.name,
                    "kind": planned.stage.kind,
                    "status": _status(planned, self.result),
                    "message": outcome.message if outcome is not None else "",
                    "run": run.name if run.is_begun else None,
                    "artifact": artifact.digest if artifact is not None else None,
                    "metrics": getattr(artifact, "metrics", {}),
                }
            )
        return {"experiment": self.result.plan.experiment.name, "stages": stages}

    def parts(self) -> Iterator[Columns]:
        rows = []
        for planned in self.result.plan:
            status = _status(planned, self.result)
            output = planned.run.artifact().summary() if planned.run.is_complete else ""
            folder = f"runs/{planned.run.name}" if planned.run.is_begun else ""
            styled = Styled(status, STYLES.get(status, "red"))
            rows.append((planned.name, planned.stage.kind, styled, output, folder))
        yield Columns(("stage", "kind", "result", "output", "folder"), rows)

    def finish(self) -> None:
        self.result.raise_for_failure()


def parse_duration(text: str | None) -> float | None:
    """Seconds of `90`, `90s`, `30m`, `2h`, `1d`; None stays None.

    Raises:
        UsageError: the text is none of these.
    """
    if text is None:
        return None
    try:
        seconds: float = parse_seconds(text)
    except PydanticCustomError:
        seconds = 0
    if seconds <= 0:
        raise UsageError(f"--max-time {text!r}: write 90s, 30m, 2h or 1d")
    return seconds


def _agreed_plan(path: Path | None, request: Request) -> AgreedPlan | None:
    """The plan to hold the run against; it says itself what was asked for.

    Raises:
        UsageError: the file is no plan, or the command line says something else besides.
    """
    if path is None:
        return None
    if request != NOTHING_MORE:
        raise UsageError(
            "--plan already holds what was asked for when it was made; leave out --set, --rerun "
            "and --locked"
        )
    return read_document(path)


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


def _in_process(_plan: Plan) -> Launcher:
    from continuum.execution.launchers.in_process import InProcessLauncher

    return InProcessLauncher()


def _in_processes(plan: Plan) -> Launcher:
    from continuum.execution.launchers.auto import AutomaticLauncher

    kinds = {planned.stage.preload for planned in plan if planned.action is not Action.REUSE}
    return AutomaticLauncher(kinds - {""})


def _progress(plain: bool) -> Progress:
    if verbosity() is Verbosity.QUIET:
        return SilentProgress()
    if plain or not (sys.stderr.isatty() and sys.stdout.isatty()):
        return PlainProgress()
    from continuum.cli.live import LiveProgress  # draws with rich

    return LiveProgress()


def _status(planned: PlannedStage, result: RunResult) -> str:
    outcome = result.outcomes.get(planned.name)
    unreached = "reused" if planned.action is Action.REUSE else "not reached"
    return outcome.status if outcome is not None else unreached
