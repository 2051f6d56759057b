"""Stages in several processes under torchrun, on this machine or on the nodes of a Slurm job.

The ranks are asked to stop by a file that the training loop looks for: a signal would reach
torchrun, which ends its workers faster than a checkpoint may be saved.
Events come back as lines of a file, which also works across nodes that share the folder.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from continuum.errors import PreflightError
from continuum.execution.launchers import (
    KILLED_IN_STARTUP,
    NOT_STARTED,
    PATIENCE_S,
    CrashOutput,
    describe_exit_status,
    describe_late_exit,
    slurm,
    status_of_exit,
)
from continuum.execution.launchers.parent_death import PARENT_VARIABLE
from continuum.execution.signals import blocked_signals
from continuum.preflight.device_errors import is_timeout, waiting_ranks
from continuum.runs.events import Event, Lost, Outcome, Ready, Report, Trained
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord

POLL_S = 0.1


@dataclass
class _Agent:
    process: subprocess.Popen[bytes]
    deadly: signal.Signals
    """Ends all ranks: they die with a killed agent, but not with srun."""
    is_ready: bool = False
    """Whether the ranks have anything to save."""
    was_killed: bool = False
    """While they had nothing to save."""


class TorchrunLauncher:
    """Runs each stage with one torchrun agent a node."""

    def __init__(self) -> None:
        self._running: dict[StageRun, _Agent] = {}
        self._guard = threading.Lock()
        self._is_stopping = False

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        num_nodes, num_devices = num_processes(record)
        events = run.path / f".events-{os.getpid()}-{time.time_ns()}.jsonl"
        agent = [sys.executable, "-m", "continuum.execution.launchers.torchrun_agent"]
        agent += [str(run.path), str(events), str(num_nodes), str(num_devices)]
        output = CrashOutput(run.log_path)
        ends: list[Outcome | Lost] = []
        last_step: int | None = None

        def take(event: Event) -> None:
            nonlocal last_step
            running.is_ready |= isinstance(event, Ready)
            if isinstance(event, Outcome | Lost):
                ends.append(event)
                return
            if isinstance(event, Trained):
                last_step = event.step
            on_event(event)

        with ExitStack() as stack:
            command, deadly = [*agent, ""], signal.SIGKILL
            if num_nodes > 1:
                try:
                    nodes = slurm.first_nodes(num_nodes)
                    meeting = stack.enter_context(slurm.meeting_place(nodes))
                except PreflightError as error:
                    return Outcome.of(error)
                command, deadly = slurm.step(nodes, [*agent, meeting]), signal.SIGINT
            with self._guard:
                if self._is_stopping:
                    return NOT_STARTED
                run.stop_request.unlink(missing_ok=True)
                events.touch()
                process = _start(command, run.log_path, is_step=num_nodes > 1)
                running = self._running[run] = _Agent(process, deadly)
            try:
                _follow(process, events, take)
            finally:
                with self._guard:
                    del self._running[run]
                was_asked = run.stop_request.exists()
                events.unlink(missing_ok=True)
                run.stop_request.unlink(missing_ok=True)
        outcome = _outcome(ends, process.returncode, run, output, was_asked=was_asked)
        if running.was_killed and outcome.status == "killed":
            return KILLED_IN_STARTUP
        if not is_timeout(outcome.message):
            return outcome
        known = waiting_ranks(output.text()) | {it.rank for it in ends if isinstance(it, Outcome)}
        silent = sorted(set(range(num_nodes * num_devices)) - known)
        return replace(outcome, message=f"{_describe_hang(silent, last_step)}{outcome.message}")

    def stop(self) -> None:
        with self._guard:
            self._is_stopping = True
            for run in self._running:
                run.stop_request.touch()
        patience = threading.Timer(PATIENCE_S, self._kill_in_startup)
        patience.daemon = True
        patience.start()

    def close(self) -> None:
        with self._guard:
            for agent in self._running.values():
                agent.process.send_signal(agent.deadly)

    def _kill_in_startup(self) -> None:
        """Kill the ranks that do not look for the request: they have not begun to train."""
        with self._guard:
            for agent in self._running.values():
                if not agent.is_ready:
                    agent.was_killed = True
                    agent.process.send_signal(agent.deadly)


def num_processes(record: StageRecord) -> tuple[int, int]:
    """The nodes that a stage asks for, and the processes on each."""
    runtime = (record.recipe or record.spec).get("runtime") or {}
    return int(runtime.get("num_nodes", 1)), int(runtime.get("devices", 1))


def _describe_hang(silent: list[int], last_step: int | None) -> str:
    """Where a collective operation hung: after which step, and which ranks did not wait in it."""
    after = "before the first logged step" if last_step is None else f"after step {last_step:,}"
    who = f", with no output from rank {', '.join(map(str, silent))}" if silent else ""
    return f"hung {after}{who}: "


def _start(command: list[str], log_path: Path, *, is_step: bool) -> subprocess.Popen[bytes]:
    # On several nodes Slurm's daemon is the parent of torchrun, not this process.
    own = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    with log_path.open("ab") as log, blocked_signals():
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=slurm.step_environment(os.environ) if is_step else own,
            start_new_session=is_step,  # srun ends all tasks on a terminal's SIGHUP or SIGINT
        )


def _follow(process: subprocess.Popen[bytes], events: Path, take: Report) -> None:
    """Pass on the events in a file until all processes have ended."""
    with events.open("rb") as file:
        while True:
            has_ended = process.poll() is not None
            for event in _new_events(file):
                take(event)
            if has_ended:
                return
            time.sleep(POLL_S)


def _new_events(file: BinaryIO) -> list[Event]:
    """The complete lines that were appended since the last call."""
    start = file.tell()
    complete, newline, _ = file.read().rpartition(b"\n")
    file.seek(start + len(complete) + len(newline))
    found = []
    for line in filter(None, complete.splitlines()):
        with suppress(ValueError):  # a full disk has cut this line off
            found.append(Event.decode(line))
    return found


def _outcome(
    ends: list[Outcome | Lost],
    exit_code: int,
    run: StageRun,
    output: CrashOutput,
    *,
    was_asked: bool,
) -> Outcome:
    """How the stage ended, by the process whose end explains the others.

    First, what rank 0 has published counts, and so does a stop that was requested: a process that
    dies later was shutting down. Second, a rank that reports why it failed: torchrun ends its
    peers. Last, the first rank that died without an outcome: its peers crash and only report that
    they lost it, or torchrun ends them, last by SIGKILL.
    """
    outcomes = [end for end in ends if isinstance(end, Outcome)]
    has_reported = {outcome.rank for outcome in outcomes}
    lost = [end for end in ends if isinstance(end, Lost)]
    dead = [end for end in lost if end.exit_code < 0 or end.rank not in has_reported]
    dead.sort(key=lambda end: end.exit_code == -signal.SIGTERM)
    own = f"the worker {describe_exit_status(exit_code)}{output.likely_cause(exit_code)}"
    cause = dead[0].message if dead else own
    final = ("done", "stopped") if was_asked else ("done",)
    good = [outcome for outcome in outcomes if outcome.status in final]
    if good or run.is_complete:
        ended = good[0] if good else Outcome("done")
        return replace(ended, message=describe_late_exit(cause)) if exit_code != 0 else ended
    known = [end for end in outcomes if end.status in ("failed", "refused", "damaged")]
    if known or (outcomes and not dead):
        return [*known, *outcomes][0]
    status = status_of_exit(dead[0].exit_code if dead else exit_code)
    return Outcome(status, output.describe(cause))
