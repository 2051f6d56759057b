"""A thread that keeps one logger equal to metrics.jsonl, whatever becomes of the logger."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

from continuum.training.loggers.series import Outcome, Row, Series

RETRY_S = 60.0
"""Until a logger that failed is tried again."""
CLOSE_S = 30.0
"""How long the end of a run waits for a logger: far less than a stopped run is given to save."""


class Mirror:
    """Follows the rows of a file into a series; what fails is told once and made good later."""

    def __init__(self, name: str, series: Series, path: Path, warn: Callable[[str], None]) -> None:
        """Begin to follow; `warn` is called from this mirror's thread."""
        self._name = name
        self._series = series
        self._path = path
        self._warn = warn
        self._has_warned = False
        self._position: int | None = None
        """Bytes of the file that the series holds; None when it must be begun anew."""
        self._news = threading.Event()
        self._closing = threading.Event()
        self._outcome: Outcome = "failed"
        self._thread = threading.Thread(target=self._follow, name=f"logger-{name}", daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """There are new rows."""
        self._news.set()

    def close(self, outcome: Outcome) -> None:
        """Take over the last rows and end the series, if that can be had soon."""
        self._outcome = outcome
        self._closing.set()
        self._news.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._tell_once(f"it did not take the last rows within {CLOSE_S:g} s")

    def _follow(self) -> None:
        is_last = False
        while not is_last:
            self._news.clear()
            is_last = self._closing.is_set()  # after, so that no word of it is cleared
            try:
                self._catch_up()
                if is_last:
                    self._series.end(self._outcome)
            except Exception as error:  # Of any library or server: training goes on without it.
                self._position = None
                self._tell_once(f"{type(error).__name__}: {' '.join(str(error).split())}")
                self._closing.wait(RETRY_S)
            else:
                if not is_last:
                    self._news.wait()

    def _catch_up(self) -> None:
        rows, end = _read_rows(self._path, self._position or 0)
        if self._position is None:
            self._series.begin(rows)
        else:
            for row in rows:
                self._series.write(row)
        self._position = end

    def _tell_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"the logger {self._name} does not work: {message}; training goes on without it, "
                "all numbers are in metrics.jsonl"
            )


def _read_rows(path: Path, start: int) -> tuple[list[Row], int]:
    """The finished lines after a position, and the position behind them, in bytes."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        finished, newline, _ = file.read().rpartition(b"\n")
    return [json.loads(line) for line in finished.splitlines()], start + len(finished + newline)
