"""What a run shows while it goes: plain lines here, a live display on a terminal in `live`."""

import sys
import threading
import time
from abc import ABC, abstractmethod
from typing import TextIO

from continuum.runs.events import Event, Progressed, Saved, Trained

PLAIN_INTERVAL_S = 5.0
"""Seconds between two progress lines of a stage where there is no terminal."""


class Progress(ABC):
    """Shows events; `observe` may be called from several threads."""

    @abstractmethod
    def observe(self, stage: str, event: Event) -> None:
        """Show an event of a stage."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class SilentProgress(Progress):
    """Shows nothing: what failed is told at the end."""

    def observe(self, stage: str, event: Event) -> None:
        pass


class PlainProgress(Progress):
    """One line an event, progress at most every few seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def observe(self, stage: str, event: Event) -> None:
        with self._lock:
            line = self._line(stage, event)
            if line is not None:
                print(line, file=self._stream, flush=True)

    def _line(self, stage: str, event: Event) -> str | None:
        is_frequent = isinstance(event, Trained | Progressed | Saved)
        if not str(event) or (is_frequent and not self._is_due(stage, event)):
            return None
        return f"{stage}: {event}" if stage else str(event)

    def _is_due(self, stage: str, event: Event) -> bool:
        is_last = isinstance(event, Trained) and event.step == event.num_steps
        now = time.monotonic()
        if not is_last and now - self._shown_at.get(stage, -PLAIN_INTERVAL_S) < PLAIN_INTERVAL_S:
            return False
        self._shown_at[stage] = now
        return True
