"""Stages as processes on this machine, forked by a server.

Importing torch, Fabric and LitGPT takes seconds; forking a process that has imported them takes
milliseconds. Python's forkserver has no threads and no CUDA context, so forking it is safe.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from continuum.execution import worker
from continuum.execution.launchers import (
    KILLED_IN_STARTUP,
    NOT_STARTED,
    PATIENCE_S,
    CrashOutput,
    describe_exit_status,
    describe_late_exit,
    status_of_exit,
)
from continuum.execution.launchers.parent_death import PARENT_VARIABLE
from continuum.execution.run_stage import is_stateful
from continuum.execution.signals import blocked_signals
from continuum.runs.events import Event, Outcome, Ready, Report
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord

PRELOAD = "continuum.execution.launchers.preload"
PRELOAD_VARIABLE = "CONTINUUM_PRELOAD"
"""Environment variable that names further modules for `preload`, separated by commas."""
_start_or_join = threading.Lock()
"""When a process starts, Python polls the others that its parent started. The fork server reports
an exit code once: of two threads that read it at the same time, one would get 255."""


@dataclass
class _Worker:
    is_stateful: bool
    is_ready: bool = False
    """Whether the stage has begun what it was started for."""

    @property
    def has_state(self) -> bool:
        """Whether there may be something to save."""
        return self.is_stateful and self.is_ready


class LocalLauncher:
    """Runs each stage in one process."""

    def __init__(self, preloads: Iterable[str] = ()) -> None:
        """Start the server, which imports these modules while the first stages are prepared."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([PRELOAD])
        os.environ[PRELOAD_VARIABLE] = ",".join(sorted(preloads))
        os.environ[PARENT_VARIABLE] = str(os.getpid())
        # Slurm may signal every process of a job. Python's two servers start with the signals
        # blocked, and so do the workers, which unblock them when they can act.
        with blocked_signals():
            resource_tracker.ensure_running()
            with blocked_signals():  # Python has unblocked SIGTERM.
                forkserver.ensure_running()
        del os.environ[PRELOAD_VARIABLE], os.environ[PARENT_VARIABLE]
        self._running: dict[Any, _Worker] = {}
        self._num_starting = 0
        """Calls that wait for the server, which may still import its modules."""
        self._guard = threading.Lock()
        self._is_stopping = self._is_closed = False

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        run.log_path.touch()  # A disk error is reported here rather than by the worker.
        output = CrashOutput(run.log_path)
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.main, args=(str(run.path), sender), name=run.name
        )
        worker_state = _Worker(is_stateful(record))
        not_started = self._start(process, worker_state)
        sender.close()
        if not_started is not None:
            receiver.close()
            return not_started

        def take(event: Event) -> None:
            worker_state.is_ready |= isinstance(event, Ready)
            on_event(event)

        try:
            outcome = _receive(receiver, process, take)
            connection.wait([process.sentinel])
        finally:
            with self._guard:
                del self._running[process]
            receiver.close()
        exit_code = _join(process)
        cause = f"the worker {describe_exit_status(exit_code)}"
        if outcome is None and run.is_complete:
            outcome = Outcome("done")
        if outcome is not None:
            is_late = exit_code != 0 and outcome.status in ("done", "stopped")
            return replace(outcome, message=describe_late_exit(cause)) if is_late else outcome
        if self._is_stopping and exit_code == -signal.SIGKILL and not worker_state.has_state:
            if worker_state.is_stateful:
                return KILLED_IN_STARTUP
            return Outcome("stopped", "did not stop in time and was killed; it starts over")
        message = output.describe(cause + output.likely_cause(exit_code))
        return Outcome(status_of_exit(exit_code), message)

    def _start(self, process: Any, state: _Worker) -> Outcome | None:
        """Start a worker; return the outcome if it cannot start."""
        with self._guard:
            if self._is_stopping:
                return NOT_STARTED
            self._num_starting += 1
        try:
            with _start_or_join:
                process.start()
        except (EOFError, ConnectionError):
            if self._is_stopping:
                return NOT_STARTED
            return Outcome("killed", "the process that starts stages has died; run again")
        finally:
            with self._guard:
                self._num_starting -= 1
        with self._guard:
            self._running[process] = state
            if self._is_stopping:  # while the server was busy
                process.terminate()
            if self._is_closed:
                process.kill()
        return None

    def stop(self) -> None:
        with self._guard:
            self._is_stopping = True
            for process in self._running:
                process.terminate()
        patience = threading.Timer(PATIENCE_S, self._kill_stateless)
        patience.daemon = True
        patience.start()

    def close(self) -> None:
        with self._guard:
            self._is_stopping = self._is_closed = True
            for process in self._running:
                process.kill()
            self._kill_hanging_server()

    def _kill_stateless(self) -> None:
        """Kill what waits for a name server, imports or runs native code, with nothing to save."""
        with self._guard:
            for process, state in self._running.items():
                if not state.has_state:
                    process.kill()
            self._kill_hanging_server()

    def _kill_hanging_server(self) -> None:
        """Kill a server that starts nothing: it still imports its modules and has no children."""
        pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        if self._num_starting and pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _join(process: Any) -> int | None:
    with _start_or_join:
        process.join()
        exit_code: int | None = process.exitcode
        process.close()
    return exit_code


def _receive(receiver: connection.Connection, process: Any, on_event: Report) -> Outcome | None:
    """Pass events on until the worker has ended; return its outcome if it reported one."""
    outcome = None
    while True:
        ready = connection.wait([receiver, process.sentinel])
        if receiver in ready:
            try:
                event = receiver.recv()
            except (EOFError, OSError):
                return outcome
            if isinstance(event, Outcome):
                outcome = event
            else:
                on_event(event)
        elif process.sentinel in ready:
            return outcome
