"""Stages in this very process: for notebooks and debuggers, where a breakpoint should hold."""

import threading
from typing import Any

from continuum import worker
from continuum.errors import ContinuumError, StoppedError
from continuum.launchers import OnEvent, Outcome
from continuum.runs import StageRun


class InProcessLauncher:
    """Runs one stage at a time; exceptions that are bugs pass through with their traceback."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._one_at_a_time = threading.Lock()

    def launch(self, run: StageRun, on_event: OnEvent) -> Outcome:
        def report(event: dict[str, Any]) -> None:
            on_event(event)
            if self._stop.is_set() and not worker.is_stateful(run):
                raise StoppedError("stopped; it starts over with the next run")

        with self._one_at_a_time:
            if self._stop.is_set():
                return Outcome("stopped", "not started: the run is stopping")
            try:
                worker.run_stage(run, report, self._stop.is_set)
            except ContinuumError as error:
                return Outcome.of(error)
        return Outcome("done")

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        pass
