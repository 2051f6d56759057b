"""Stages as processes on this machine, forked from a server that has imported torch once.

Importing torch, Fabric and LitGPT takes seconds; a fork of a process that has done so takes
milliseconds. Python's forkserver holds no threads and no CUDA context, so forking it is safe.
"""

import multiprocessing
import signal
import threading
from collections.abc import Iterable
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from continuum import worker
from continuum.launchers import OnEvent, Outcome
from continuum.launchers.death import describe_death, name_death
from continuum.runs import StageRun
from continuum.stopping import signals_held_back

PRELOAD = "continuum.launchers.preload"
"""Not imported here: it makes the process that imports it deaf to signals."""
PATIENCE_S = 5.0
"""How long a stage that has nothing to save may take to leave."""


class LocalLauncher:
    """One process a stage."""

    def __init__(self, preloads: Iterable[str] = ()) -> None:
        """Start the server, which imports these modules of `launchers/preload/`."""
        self._context = multiprocessing.get_context("forkserver")
        modules = (f"{PRELOAD}.{name}" for name in sorted(set(preloads)))
        self._context.set_forkserver_preload([PRELOAD, *modules])
        _start_server()
        self._running: dict[Any, StageRun] = {}
        self._guard = threading.Lock()
        self._is_stopping = False

    def launch(self, run: StageRun, on_event: OnEvent) -> Outcome:
        run.log_path.touch()  # A disk that refuses is found here, where it can be told.
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.main, args=(str(run.path), sender), name=run.name
        )
        with self._guard:
            if self._is_stopping:
                return Outcome("stopped", "not started: the run is stopping")
            try:
                process.start()
            except (EOFError, ConnectionError):
                return Outcome("killed", "the process that starts stages has died; run again")
            finally:
                sender.close()
            self._running[process] = run
        try:
            result = _receive(receiver, process, on_event)
            process.join()
        finally:
            with self._guard:
                del self._running[process]
            receiver.close()
        exit_code = process.exitcode
        process.close()
        if result is not None and exit_code == 0:
            return Outcome(result["status"], result["message"])
        if self._is_stopping and exit_code == -signal.SIGKILL and not worker.is_stateful(run):
            return Outcome("stopped", "did not heed the stop and was killed; it starts over")
        cause = f"the worker {name_death(exit_code)}"
        return Outcome("killed", describe_death(cause, run.log_path))

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
            for process, run in self._running.items():
                if not worker.is_stateful(run):
                    process.kill()


def _start_server() -> None:
    """Start importing now: it goes on while the first stages are prepared.

    Slurm may signal every process of a job. Python's two servers are born deaf to that, and so
    are the workers, which listen as soon as they can act.
    """
    with signals_held_back():
        resource_tracker.ensure_running()
        with signals_held_back():  # Python has let SIGTERM through again.
            forkserver.ensure_running()


def _receive(
    receiver: connection.Connection, process: Any, on_event: OnEvent
) -> dict[str, Any] | None:
    """Pass events on until the worker has ended; its result, if it lived to tell one."""
    result = None
    while True:
        ready = connection.wait([receiver, process.sentinel])
        if receiver in ready:
            try:
                event = receiver.recv()
            except (EOFError, OSError):
                return result
            if event["event"] == "result":
                result = event
            else:
                on_event(event)
        elif process.sentinel in ready:
            return result
