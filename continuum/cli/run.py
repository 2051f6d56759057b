"""`continuum run`: run an experiment."""

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
from continuum.cli.console import (
    AsJson,
    Columns,
    Result,
    Styled,
    Verbosity,
    drop_closed_terminal,
    verbosity,
)
from continuum.cli.next_steps import next_steps
from continuum.cli.progress import LiveProgress, PlainProgress, Progress, SilentProgress
from continuum.errors import PreflightError, UsageError
from continuum.execution.executor import StopRule, execute, record_results
from continuum.execution.launchers import Launcher
from continuum.execution.results import Planned, RunResult
from continuum.execution.signals import stop_signals
from continuum.experiment.amounts import parse_duration as parse_seconds
from continuum.lint import diagnose
from continuum.loading.diagnostics import Diagnostic, as_document, has_errors, headline, render
from continuum.planning.approval import approve
from continuum.planning.folder_state import read_folder
from continuum.planning.plan import NOTHING_MORE, Action, Plan, PlannedStage, Request
from continuum.planning.plan_file import SavedPlan, read_document
from continuum.planning.planner import make_plan
from continuum.runs.attempts import first_line
from continuum.runs.events import Noted

SKIPPED = "skipped"
STYLES = {"done": "green", "reused": "dim", SKIPPED: "yellow"}


def run(
    spec: Spec,
    overrides: Overrides = None,
    rerun: Rerun = None,
    locked: Locked = False,
    plan_path: Annotated[
        Path | None,
        typer.Option("--plan", help="Run only if the plan equals this saved one; else exit 6."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print plain lines instead of a live display.")
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run stages in this process, for debugging.")
    ] = False,
    max_time: Annotated[
        str | None,
        typer.Option("--max-time", help="Save and stop after this time: 90s, 30m, 2h, 1d."),
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", help="Seconds to wait for stages to save when stopping.")
    ] = 120.0,
    no_warnings: Annotated[
        bool, typer.Option("--no-warnings", help="Do not print the warnings of the plan.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Treat the plan's warnings as errors: start nothing.")
    ] = False,
    unsafe_locks: UnsafeLocks = False,
    as_json: AsJson = False,
) -> "Done":
    """Run an experiment. Reuses completed stages and resumes interrupted ones."""
    request = Request(tuple(overrides or ()), frozenset(rerun or ()), locked)
    saved = _saved_plan(plan_path, request)
    request = saved.request if saved is not None else request
    opened = open_experiment(spec, request.overrides)
    experiment, folder = opened.experiment, opened.folder
    stop = StopRule(_stop_on_signals(parse_duration(max_time)), grace_s=grace)
    make_launcher = _in_process if in_process else _in_processes
    with _progress(plain) as progress, folder.lock(unsafe=unsafe_locks):
        state = read_folder(experiment, folder, is_writer=True)
        plan = make_plan(experiment, state, request)
        progress.observe("", Planned(plan))
        approve(plan, opened.loaded, opened.files, saved)
        found = diagnose(opened.loaded, plan, strict=strict, to_run=True)
        if has_errors(found):
            raise PreflightError(f"--strict: nothing was started\n{render(found)}")
        for warning in () if no_warnings else found:
            progress.observe("", Noted(headline(warning)))
        result = execute(plan, make_launcher, progress.observe, stop, opened.files)
        record_results(result)
    _ignore_signals()
    return Done(result, found, spec)


@dataclass(frozen=True)
class Done(Result):
    """The result of every stage."""

    schema = "continuum.run/1"
    result: RunResult
    found: tuple[Diagnostic, ...]
    """The warnings of the plan."""
    spec: Path
    """As the user named it."""

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
        findings = as_document(self.found)["diagnostics"]
        name = self.result.plan.experiment.name
        return {"experiment": name, "stages": stages, "findings": findings}

    def parts(self) -> Iterator[str | Columns]:
        rows = []
        for planned in self.result.plan:
            status = _status(planned, self.result)
            output = _output(planned, self.result)
            folder = f"runs/{planned.run.name}" if planned.run.is_begun else ""
            styled = Styled(status, STYLES.get(status.partition(" ")[0], "red"))
            rows.append((planned.name, planned.stage.kind, styled, output, folder))
        yield Columns(("stage", "kind", "result", "output", "folder"), rows)
        plan = self.result.plan
        if verbosity() is not Verbosity.QUIET and len(self.result.up_to_date) == len(plan.stages):
            yield from next_steps(self.spec, plan)

    def finish(self) -> None:
        self.result.raise_for_failure()


def parse_duration(text: str | None) -> float | None:
    """Convert `90`, `90s`, `30m`, `2h` or `1d` to seconds; None stays None.

    Raises:
        UsageError: the text is not a duration.
    """
    if text is None:
        return None
    try:
        seconds: float = parse_seconds(text)
    except PydanticCustomError:
        seconds = 0
    if seconds <= 0:
        raise UsageError(f"--max-time {text!r}: not a valid duration; use e.g. 90s, 30m, 2h or 1d")
    return seconds


def _saved_plan(path: Path | None, request: Request) -> SavedPlan | None:
    """The saved plan of `--plan`, which includes its request.

    Raises:
        UsageError: the file is not a valid plan, or other options conflict with it.
    """
    if path is None:
        return None
    if request != NOTHING_MORE:
        raise UsageError(
            "--plan cannot be used with --set, --rerun or --locked: the saved plan includes them"
        )
    return read_document(path)


def _stop_on_signals(max_time_s: float | None) -> Callable[[], bool]:
    """Request a stop on SIGINT, on any of `stop_signals`, or when the time is up.

    A second SIGINT raises KeyboardInterrupt.
    """
    asked = threading.Event()
    deadline = None if max_time_s is None else time.monotonic() + max_time_s

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGHUP:
            drop_closed_terminal()
        asked.set()

    for number in (signal.SIGINT, *stop_signals()):
        signal.signal(number, ask)
    return lambda: asked.is_set() or (deadline is not None and time.monotonic() > deadline)


def _ignore_signals() -> None:
    """Ignore late requests to stop, so that the result is printed."""
    for number in (signal.SIGINT, *stop_signals()):
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
    return LiveProgress()


def _status(planned: PlannedStage, result: RunResult) -> str:
    outcome = result.outcomes.get(planned.name)
    if outcome is not None:
        return outcome.status
    return "reused" if planned.action is Action.REUSE else _why_skipped(planned, result)


def _why_skipped(planned: PlannedStage, result: RunResult) -> str:
    """`skipped (pretrain stopped)`: the input that it lacks, and how that ended."""
    for ref in planned.refs:
        outcome = result.outcomes.get(ref.stage)
        if outcome is not None and not outcome.has_succeeded:
            return f"{SKIPPED} ({ref.stage} {outcome.status})"
        if outcome is None and ref.stage not in result.up_to_date:
            return f"{SKIPPED} ({ref.stage} skipped)"
    return SKIPPED


def _output(planned: PlannedStage, result: RunResult) -> str:
    """What the stage made, or the first line of why it did not."""
    outcome = result.outcomes.get(planned.name)
    if outcome is not None and not outcome.has_succeeded:
        return first_line(outcome.message)
    return planned.run.artifact().summary() if planned.run.is_complete else ""
