"""Several processes a stage, through torchrun: on this machine, or on the nodes of a Slurm job.

The ranks are asked to stop by a file that the loop looks for; a signal would reach torchrun, whose
way to end its workers leaves them less time than a checkpoint may take.
Events come back as lines of a file, which works across nodes that share the folder.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from continuum.device_faults import is_timeout, waiting_ranks
from continuum.errors import PreflightError
from continuum.launchers import OnEvent, Outcome, slurm_job
from continuum.launchers.death import (
    describe_death,
    describe_late_death,
    name_death,
    printed_since,
    size_of,
)
from continuum.runs import StageRun
from continuum.safe_path import safe_environment
from continuum.stopping import signals_held_back
from continuum.worker import PARENT_VARIABLE

POLL_S = 0.1


def processes_of(run: StageRun) -> tuple[int, int]:
    """Nodes, and processes on each, that the stage in `run` asks for."""
    runtime = (run.record().recipe or {}).get("runtime", {})
    return int(runtime.get("num_nodes", 1)), int(runtime.get("devices", 1))


@dataclass(frozen=True)
class _Group:
    """torchrun here, or the Slurm step that holds one on each node."""

    process: subprocess.Popen[bytes]
    is_step: bool

    def kill(self) -> None:
        """End every rank at once: a killed torchrun takes its ranks along, an srun must do it."""
        if self.is_step:
            self.process.send_signal(signal.SIGINT)
        else:
            self.process.kill()


class TorchrunLauncher:
    """One torchrun a stage and node."""

    def __init__(self) -> None:
        self._running: dict[StageRun, _Group] = {}
        self._guard = threading.Lock()
        self._is_stopping = False

    def launch(self, run: StageRun, on_event: OnEvent) -> Outcome:
        num_nodes, num_devices = processes_of(run)
        events = run.path / f".events-{os.getpid()}-{time.time_ns()}.jsonl"
        agent = [sys.executable, "-m", "continuum.launchers.agent", str(run.path), str(events)]
        agent += [str(num_nodes), str(num_devices)]
        with ExitStack() as stack:
            try:
                if num_nodes > 1:
                    nodes = slurm_job.first_nodes(num_nodes)
                    meeting = stack.enter_context(slurm_job.meeting_place(nodes))
                    command = slurm_job.step(nodes, [*agent, meeting])
                else:
                    command = [*agent, ""]
            except PreflightError as error:
                return Outcome("refused", str(error))
            return self._carry_out(run, command, events, on_event, is_step=num_nodes > 1)

    def stop(self) -> None:
        with self._guard:
            self._is_stopping = True
            for run in self._running:
                run.stop_request.touch()

    def close(self) -> None:
        with self._guard:
            for group in self._running.values():
                group.kill()

    def _carry_out(
        self, run: StageRun, command: list[str], events: Path, on_event: OnEvent, *, is_step: bool
    ) -> Outcome:
        begun_at = size_of(run.log_path)
        steps = _Steps(on_event)
        with self._guard:
            if self._is_stopping:
                return Outcome("stopped", "not started: the run is stopping")
            run.stop_request.unlink(missing_ok=True)
            events.touch()
            group = _start(command, run.log_path, is_step=is_step)
            self._running[run] = group
        try:
            told = _follow(group.process, events, steps.pass_on)
        finally:
            with self._guard:
                del self._running[run]
            was_asked = run.stop_request.exists()
            events.unlink(missing_ok=True)
            run.stop_request.unlink(missing_ok=True)
        outcome = _outcome(
            told, group.process.returncode, run, was_asked=was_asked, begun_at=begun_at
        )
        if not is_timeout(outcome.message):
            return outcome
        waiting = waiting_ranks(printed_since(run.log_path, begun_at))
        waiting |= {end["rank"] for end in told if end["event"] == "result"}
        return replace(outcome, message=f"{_hang(waiting, run, steps.last)}{outcome.message}")


class _Steps:
    """Passes events on, and remembers the last optimizer step that rank 0 told of."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self.last: int | None = None

    def pass_on(self, event: dict[str, Any]) -> None:
        if event["event"] == "train":
            self.last = event["step"]
        self._on_event(event)


def _hang(waiting: set[int], run: StageRun, last_step: int | None) -> str:
    """Where a collective operation hung: after which step, and which ranks were not waiting.

    Args:
        waiting: Ranks that waited in vain, or lost their peer while they did.
    """
    num_nodes, num_devices = processes_of(run)
    silent = sorted(set(range(num_nodes * num_devices)) - waiting)
    after = "before the first logged step" if last_step is None else f"after step {last_step:,}"
    who = f", without a word from rank {', '.join(map(str, silent))}" if silent else ""
    return f"hung {after}{who}: "


def _start(command: list[str], log_path: Path, *, is_step: bool) -> _Group:
    # On several nodes it is Slurm's daemon that starts torchrun, not this process.
    safe = safe_environment(dict(os.environ))
    environment = (
        slurm_job.step_environment(safe) if is_step else {**safe, PARENT_VARIABLE: str(os.getpid())}
    )
    with log_path.open("ab") as log, signals_held_back():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return _Group(process, is_step)


def _follow(
    process: subprocess.Popen[bytes], events: Path, on_event: OnEvent
) -> list[dict[str, Any]]:
    """Pass events on until all processes have ended; what was told of their ends, in order."""
    ends: list[dict[str, Any]] = []
    with events.open("rb") as file:
        while True:
            has_ended = process.poll() is not None
            for event in _new_lines(file):
                if event["event"] in ("result", "lost"):
                    ends.append(event)
                else:
                    on_event(event)
            if has_ended:
                return ends
            time.sleep(POLL_S)


def _outcome(
    ends: list[dict[str, Any]],
    exit_code: int,
    run: StageRun,
    *,
    was_asked: bool,
    begun_at: int,
) -> Outcome:
    """What became of the stage, by the end that explains the others.

    What rank 0 has published stands, and so does the stop that was asked for: whoever dies after
    that was leaving. Else a rank that knows why it failed comes first: torchrun ends its peers.
    Then the first that died without a word: its peers crash and only tell that they lost it, or
    torchrun ends them, last by SIGKILL.
    """
    results = [end for end in ends if end["event"] == "result"]
    lost = [end for end in ends if end["event"] == "lost"]
    has_told = {result["rank"] for result in results}
    dead = [end for end in lost if end["exit_code"] < 0 or end["rank"] not in has_told]
    dead.sort(key=lambda end: end["exit_code"] == -signal.SIGTERM)
    cause = dead[0]["message"] if dead else f"the worker {name_death(exit_code)}"
    final = ("done", "stopped") if was_asked else ("done",)
    good = [Outcome.told(result) for result in results if result["status"] in final]
    if good or run.is_complete:
        ended = good[0] if good else Outcome("done")
        return replace(ended, message=describe_late_death(cause)) if exit_code != 0 else ended
    known = [r for r in results if r["status"] in ("failed", "refused", "damaged")]
    if known or (results and not dead):
        return Outcome.told([*known, *results][0])
    return Outcome("killed", describe_death(cause, run.log_path, begun_at))


def _new_lines(file: BinaryIO) -> list[dict[str, Any]]:
    """The whole lines that were appended since the last call."""
    start = file.tell()
    whole, _, _ = file.read().rpartition(b"\n")
    file.seek(start + len(whole) + (1 if whole else 0))
    found = []
    for line in whole.splitlines():
        with suppress(ValueError):  # a full disk has cut this line off
            found += [json.loads(line)] if line else []
    return found
