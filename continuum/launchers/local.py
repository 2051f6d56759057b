"""Stages as processes on this machine, forked from a server that has imported torch once.

Importing torch, Fabric and LitGPT takes seconds; a fork of a process that has done so takes
milliseconds. Python's forkserver holds no threads and no CUDA context, so forking it is safe.
"""

import multiprocessing
import signal
import threading
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

from continuum import worker
from continuum.launchers import OnEvent, Outcome
from continuum.launchers.death import describe_death, name_death
from continuum.runs import StageRun


class LocalLauncher:
    """One process a stage."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["continuum.launchers.preload"])
        _start_server()
        self._running: set[Any] = set()
        self._guard = threading.Lock()
        self._is_stopping = False

    def launch(self, run: StageRun, on_event: OnEvent) -> Outcome:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.main, args=(str(run.path), sender), name=run.name
        )
        with self._guard:
            if self._is_stopping:
                return Outcome("stopped", "not started: the run is stopping")
            process.start()
            self._running.add(process)
        sender.close()
        try:
            result = _receive(receiver, process, on_event)
            process.join()
        finally:
            with self._guard:
                self._running.discard(process)
            receiver.close()
        exit_code = process.exitcode
        process.close()
        if result is not None and exit_code == 0:
            return Outcome(result["status"], result["message"])
        if exit_code == -signal.SIGTERM and self._is_stopping:
            return Outcome("stopped", "stopped before it had begun")
        cause = f"the worker {name_death(exit_code)}"
        return Outcome("killed", describe_death(cause, run.log_path))

    def stop(self) -> None:
        with self._guard:
            self._is_stopping = True
            for process in self._running:
                process.terminate()

    def close(self) -> None:
        with self._guard:
            for process in self._running:
                process.kill()


def _start_server() -> None:
    """Start importing now: it goes on while the first stages are prepared.

    Slurm may signal every process of a job. Python's two servers are born deaf to that, and so
    are the workers, which listen as soon as they can act.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.STOP_SIGNALS)  # It has unblocked SIGTERM.
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
