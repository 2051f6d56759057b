"""Show the progress of a run: as plain lines, or live on a terminal."""

import errno
import sys
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TextIO

from continuum.cli.console import drop_closed_terminal
from continuum.runs.events import Event, Outcome, Progressed, Saved, Started, Trained

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_INTERVAL_S = 5.0
"""Seconds between two progress lines of a stage."""


class Progress(ABC):
    """Shows events; `observe` may be called from several threads."""

    def observe(self, stage: str, event: Event) -> None:
        """Show an event of a stage; the run continues when its terminal is closed."""
        try:
            self._show(stage, event)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            drop_closed_terminal()

    @abstractmethod
    def _show(self, stage: str, event: Event) -> None:
        """Print an event of a stage.

        Raises:
            OSError: it cannot be printed.
        """

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class SilentProgress(Progress):
    """Shows nothing; failures are reported at the end."""

    def _show(self, stage: str, event: Event) -> None:
        pass


class PlainProgress(Progress):
    """Prints a line for each event, and progress every few seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown_at: dict[tuple[str, type[Event]], float] = {}
        self._lock = threading.Lock()

    def _show(self, stage: str, event: Event) -> None:
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
        key = stage, type(event)  # steps do not hide the saves between them
        if not is_last and now - self._shown_at.get(key, -PLAIN_INTERVAL_S) < PLAIN_INTERVAL_S:
            return False
        self._shown_at[key] = now
        return True


class LiveProgress(Progress):
    """Shows a bar for each running stage, and other events above the bars."""

    def __init__(self) -> None:
        from rich.console import Console  # slow to import
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "LiveProgress":
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def _show(self, stage: str, event: Event) -> None:
        match event:
            case Started():
                self._tasks[stage] = self._bars.add_task(stage, total=None, text="")
            case Trained(done, total) | Progressed(done, total):
                if stage in self._tasks:
                    task = self._tasks[stage]
                    self._bars.update(task, completed=done, total=total, text=str(event))
            case Saved():
                pass
            case _:
                if isinstance(event, Outcome) and stage in self._tasks:
                    self._bars.remove_task(self._tasks.pop(stage))
                if text := str(event):
                    self._print(f"{stage}: {text}" if stage else text)

    def _print(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False)
