"""How a process that carries out a stage is asked to stop.

By a signal: from the run, or from whatever signals all of its processes at once, as `timeout`,
systemd and Slurm do. Or by a file, which reaches ranks on other machines too. The processes between
the run and its stages (fork server, torchrun) must outlive such a signal, or nothing is saved.

A stage that trains looks at its `StopRequest` between two steps. One that does not has nothing to
save, and leaves by an exception wherever it is.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from continuum.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
POLL_S = 0.2

_asked = threading.Event()


class _Leaving(SystemExit):
    """No `Exception`: a library that tries whether another can be imported would swallow it."""


class StopRequest:
    """Whether this process was asked to stop; the file is looked for a few times a second."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._looked_at = -POLL_S

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._file is not None and now - self._looked_at >= POLL_S:
            self._looked_at = now
            if self._file.exists():
                _asked.set()
        return _asked.is_set()


def heed_signals() -> None:
    """From now on the signals ask to stop; also those that came while they were held back.

    SIGINT is left to the run: the terminal sends it to everyone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNALS:
        signal.signal(number, _note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """For a process that only passes work on; what it starts holds the signals back too.

    They stay blocked, so that it may wait for one in a thread.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *SIGNALS))


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Around the start of a process: it meets the signals only when it heeds them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *SIGNALS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Around work that has no state worth saving.

    Raises:
        StoppedError: from wherever the work is when a signal comes, or now if one has come.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)
    try:
        if _asked.is_set():
            _leave()
        yield
    except _Leaving:
        raise StoppedError("stopped; it starts over with the next run") from None
    finally:
        for number in SIGNALS:
            signal.signal(number, _note)


def _note(_number: int, _frame: FrameType | None) -> None:
    _asked.set()


def _leave(*_: object) -> None:
    for number in SIGNALS:
        signal.signal(number, _note)  # Slurm and the run may each send theirs.
    raise _Leaving
