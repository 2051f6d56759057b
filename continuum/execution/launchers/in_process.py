"""Stages in this very process, one at a time: breakpoints work, and a bug has its traceback."""

import threading

from continuum.errors import ContinuumError, StoppedError
from continuum.execution.launchers import NOT_STARTED, forget_other_launchers
from continuum.execution.run_stage import is_stateful, run_stage
from continuum.runs.events import Event, Outcome, Report
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord


class InProcessLauncher:
    """Runs stages in this process."""

    def __init__(self) -> None:
        forget_other_launchers()
        self._stop = threading.Event()
        self._one_at_a_time = threading.Lock()

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        def report(event: Event) -> None:
            on_event(event)
            if self._stop.is_set() and not is_stateful(record):
                raise StoppedError.with_nothing_saved()

        with self._one_at_a_time:
            if self._stop.is_set():
                return NOT_STARTED
            try:
                run_stage(run, record, report, self._stop.is_set)
            except ContinuumError as error:
                return Outcome.of(error)
        return Outcome("done")

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        pass
