"""Checkpoints written in the background: the step loop waits for the copy to the host alone."""

import threading
from collections.abc import Callable
from typing import Any


class BackgroundWriter:
    """Writes one snapshot at a time in a thread; a failure is raised at the next call."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, snapshot: dict[str, Any]) -> None:
        """Begin to write; waits first for the one before, so that at most one is in flight."""
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(snapshot,), name="checkpoint-writer"
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is in flight; raises what the last write raised."""
        self.wait_for(None)

    def wait_for(self, timeout_s: float | None) -> bool:
        """Wait no longer than this; True when nothing is in flight.

        Raises what the last write raised.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def _run(self, snapshot: dict[str, Any]) -> None:
        try:
            self._write(snapshot)
        except BaseException as error:
            self._error = error
