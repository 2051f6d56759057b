"""Stages on this machine: as processes that a server forks, or in this very process.

Importing torch, Fabric and LitGPT takes seconds; a fork of a process that has done so takes
milliseconds. Python's forkserver holds no threads and no CUDA context, so forking it is safe.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from continuum.execution import worker
from continuum.execution.launchers import (
    NOT_STARTED,
    NewOutput,
    describe_exit,
    describe_late_death,
)
from continuum.execution.run_stage import is_stateful
from continuum.execution.safe_path import SAFE_PATH, SEARCH_PATH, safe_environment
from continuum.execution.signals import signals_held_back
from continuum.runs.events import Outcome, Report
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord

PRELOAD = "continuum.execution.launchers.preload"
"""Not imported here: it makes the process that imports it deaf to signals."""
PATIENCE_S = 5.0
"""How long a stage that has nothing to save may take to leave."""
_starting_or_joining = threading.Lock()
"""Whenever a process starts, Python polls the others that its parent started. The fork server tells
an exit code once: of two threads that read it at the same time, one would take it for 255."""


class LocalLauncher:
    """One process a stage."""

    def __init__(self, preloads: Iterable[str] = ()) -> None:
        """Start the server, which imports these modules of `preload/`."""
        self._context = multiprocessing.get_context("forkserver")
        modules = (f"{PRELOAD}.{name}" for name in sorted(set(preloads)))
        self._context.set_forkserver_preload([PRELOAD, *modules])
        _start_server()
        self._running: dict[Any, StageRecord] = {}
        self._guard = threading.Lock()
        self._is_stopping = False

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        run.log_path.touch()  # A disk that refuses is found here, where it can be told.
        output = NewOutput(run.log_path)
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.main, args=(str(run.path), sender), name=run.name
        )
        with self._guard:
            if self._is_stopping:
                return NOT_STARTED
            try:
                with _starting_or_joining:
                    process.start()
            except (EOFError, ConnectionError):
                return Outcome("killed", "the process that starts stages has died; run again")
            finally:
                sender.close()
            self._running[process] = record
        try:
            outcome = _receive(receiver, process, on_event)
            connection.wait([process.sentinel])
        finally:
            with self._guard:
                del self._running[process]
            receiver.close()
        exit_code = _join(process)
        cause = f"the worker {describe_exit(exit_code)}"
        if outcome is None and run.is_complete:
            outcome = Outcome("done")
        if outcome is not None:
            is_late = exit_code != 0 and outcome.status in ("done", "stopped")
            return replace(outcome, message=describe_late_death(cause)) if is_late else outcome
        if self._is_stopping and exit_code == -signal.SIGKILL and not is_stateful(record):
            return Outcome("stopped", "did not heed the stop and was killed; it starts over")
        return Outcome("killed", output.describe_death(cause))

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
            for process in self._running:
                process.kill()

    def _kill_stateless(self) -> None:
        """End what waits for a name server or works in native code; it has nothing to save."""
        with self._guard:
            for process, record in self._running.items():
                if not is_stateful(record):
                    process.kill()


def _start_server() -> None:
    """Start importing now: it goes on while the first stages are prepared.

    Slurm may signal every process of a job. Python's two servers are born deaf to that, and so
    are the workers, which listen as soon as they can act.
    """
    with signals_held_back(), _safe_environment():
        resource_tracker.ensure_running()
        with signals_held_back():  # Python has let SIGTERM through again.
            forkserver.ensure_running()


@contextmanager
def _safe_environment() -> Iterator[None]:
    """Around the start of Python's servers, which take the environment as it is."""
    before = {name: os.environ.get(name) for name in (SAFE_PATH, SEARCH_PATH)}
    safe = safe_environment(dict(os.environ))
    _set_variables({name: safe.get(name) for name in before})
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _join(process: Any) -> int | None:
    """The exit code of a process that has ended."""
    with _starting_or_joining:
        process.join()
        exit_code: int | None = process.exitcode
        process.close()
    return exit_code


def _receive(receiver: connection.Connection, process: Any, on_event: Report) -> Outcome | None:
    """Pass events on until the worker has ended; its outcome, if it lived to tell one."""
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
