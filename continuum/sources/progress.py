"""Progress events over several files, few enough to be read."""

import time

from continuum.events import Progressed, Report

MIN_PAUSE_S = 0.25


class ByteProgress:
    """Adds up the bytes of one file after the other and reports them, a few times a second."""

    def __init__(self, report: Report, *, num_files: int, total: int | None) -> None:
        self._report = report
        self._num_files = num_files
        self._total = total
        self._done_before = 0
        self._done = 0
        self._reported_at = float("-inf")

    def next_file(self) -> None:
        """What is counted from now on belongs to another file."""
        self._done_before = self._done

    def update(self, done: int, total: int | None = None) -> None:
        """`done` bytes of the current file are here; `total` is its size, if known."""
        self._done = self._done_before + done
        now = time.monotonic()
        if now - self._reported_at >= MIN_PAUSE_S:
            self._reported_at = now
            self._send(total if self._total is None and self._num_files == 1 else self._total)

    def finish(self) -> None:
        """Report the end."""
        self._send(self._done)

    def _send(self, total: int | None) -> None:
        self._report(Progressed(self._done, total))
