"""Several processes a stage, through torchrun: on this machine, or on the nodes of a Slurm job.

The ranks are asked to stop by a file that the loop looks for; a signal would reach torchrun, whose
way to end its workers leaves them less time than a checkpoint may take.
Events come back as lines of a file, which works across nodes that share the folder.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from continuum.errors import PreflightError
from continuum.execution.launchers import (
    NOT_STARTED,
    NewOutput,
    describe_exit,
    describe_late_death,
    slurm,
)
from continuum.execution.launchers.parent_death import PARENT_VARIABLE
from continuum.execution.safe_path import safe_environment
from continuum.execution.signals import signals_held_back
from continuum.preflight.device_errors import is_timeout, waiting_ranks
from continuum.runs.events import Event, Lost, Outcome, Report, Trained
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord

POLL_S = 0.1


class TorchrunLauncher:
    """One torchrun a stage and node."""

    def __init__(self) -> None:
        self._running: dict[StageRun, tuple[subprocess.Popen[bytes], signal.Signals]] = {}
        """With the signal that ends all ranks: a killed torchrun takes them along, an srun must."""
        self._guard = threading.Lock()
        self._is_stopping = False

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        num_nodes, num_devices = processes_of(record)
        events = run.path / f".events-{os.getpid()}-{time.time_ns()}.jsonl"
        agent = [
            sys.executable,
            "-m",
            "continuum.execution.launchers.torchrun_agent",
            str(run.path),
            str(events),
        ]
        agent += [str(num_nodes), str(num_devices)]
        output = NewOutput(run.log_path)
        ends: list[Outcome | Lost] = []
        last_step: int | None = None

        def take(event: Event) -> None:
            nonlocal last_step
            if isinstance(event, Outcome | Lost):
                ends.append(event)
                return
            if isinstance(event, Trained):
                last_step = event.step
            on_event(event)

        with ExitStack() as stack:
            try:
                if num_nodes > 1:
                    nodes = slurm.first_nodes(num_nodes)
                    meeting = stack.enter_context(slurm.meeting_place(nodes))
                    command = slurm.step(nodes, [*agent, meeting])
                else:
                    command = [*agent, ""]
            except PreflightError as error:
                return Outcome.of(error)
            with self._guard:
                if self._is_stopping:
                    return NOT_STARTED
                run.stop_request.unlink(missing_ok=True)
                events.touch()
                process = _start(command, run.log_path, is_step=num_nodes > 1)
                self._running[run] = (process, signal.SIGINT if num_nodes > 1 else signal.SIGKILL)
            try:
                _follow(process, events, take)
            finally:
                with self._guard:
                    del self._running[run]
                was_asked = run.stop_request.exists()
                events.unlink(missing_ok=True)
                run.stop_request.unlink(missing_ok=True)
        outcome = _outcome(ends, process.returncode, run, output, was_asked=was_asked)
        if not is_timeout(outcome.message):
            return outcome
        waiting = waiting_ranks(output.text())
        waiting |= {end.rank for end in ends if isinstance(end, Outcome)}
        silent = sorted(set(range(num_nodes * num_devices)) - waiting)
        return replace(outcome, message=f"{_hang(silent, last_step)}{outcome.message}")

    def stop(self) -> None:
        with self._guard:
            self._is_stopping = True
            for run in self._running:
                run.stop_request.touch()

    def close(self) -> None:
        with self._guard:
            for process, deadly in self._running.values():
                process.send_signal(deadly)


def processes_of(record: StageRecord) -> tuple[int, int]:
    """Nodes, and processes on each, that the stage asks for."""
    runtime = (record.recipe or {}).get("runtime", {})
    return int(runtime.get("num_nodes", 1)), int(runtime.get("devices", 1))


def _hang(silent: list[int], last_step: int | None) -> str:
    """Where a collective operation hung: after which step, and which ranks were not waiting."""
    after = "before the first logged step" if last_step is None else f"after step {last_step:,}"
    who = f", without a word from rank {', '.join(map(str, silent))}" if silent else ""
    return f"hung {after}{who}: "


def _start(command: list[str], log_path: Path, *, is_step: bool) -> subprocess.Popen[bytes]:
    # On several nodes it is Slurm's daemon that starts torchrun, not this process.
    safe = safe_environment(dict(os.environ))
    environment = (
        slurm.step_environment(safe) if is_step else {**safe, PARENT_VARIABLE: str(os.getpid())}
    )
    with log_path.open("ab") as log, signals_held_back():
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def _follow(process: subprocess.Popen[bytes], events: Path, take: Report) -> None:
    """Hand over the events of a file until all processes have ended."""
    with events.open("rb") as file:
        while True:
            has_ended = process.poll() is not None
            for event in _new_events(file):
                take(event)
            if has_ended:
                return
            time.sleep(POLL_S)


def _new_events(file: BinaryIO) -> list[Event]:
    """The whole lines that were appended since the last call."""
    start = file.tell()
    whole, _, _ = file.read().rpartition(b"\n")
    file.seek(start + len(whole) + (1 if whole else 0))
    found = []
    for line in filter(None, whole.splitlines()):
        with suppress(ValueError):  # a full disk has cut this line off
            found.append(Event.decode(line))
    return found


def _outcome(
    ends: list[Outcome | Lost],
    exit_code: int,
    run: StageRun,
    output: NewOutput,
    *,
    was_asked: bool,
) -> Outcome:
    """What became of the stage, by the end that explains the others.

    What rank 0 has published stands, and so does the stop that was asked for: whoever dies after
    that was leaving. Else a rank that knows why it failed comes first: torchrun ends its peers.
    Then the first that died without a word: its peers crash and only tell that they lost it, or
    torchrun ends them, last by SIGKILL.
    """
    outcomes = [end for end in ends if isinstance(end, Outcome)]
    has_told = {outcome.rank for outcome in outcomes}
    lost = [end for end in ends if isinstance(end, Lost)]
    dead = [end for end in lost if end.exit_code < 0 or end.rank not in has_told]
    dead.sort(key=lambda end: end.exit_code == -signal.SIGTERM)
    cause = dead[0].message if dead else f"the worker {describe_exit(exit_code)}"
    final = ("done", "stopped") if was_asked else ("done",)
    good = [outcome for outcome in outcomes if outcome.status in final]
    if good or run.is_complete:
        ended = good[0] if good else Outcome("done")
        return replace(ended, message=describe_late_death(cause)) if exit_code != 0 else ended
    known = [end for end in outcomes if end.status in ("failed", "refused", "damaged")]
    if known or (outcomes and not dead):
        return [*known, *outcomes][0]
    return Outcome("killed", output.describe_death(cause))
