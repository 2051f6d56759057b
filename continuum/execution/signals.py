"""How a process that runs a stage is asked to stop.

By a signal: from the run, or from whatever signals all of its processes at once, as `timeout`,
systemd, Slurm, submitit (SIGUSR2) and a closed terminal (SIGHUP) do, or from the kernel when the
CPU time is used up (SIGXCPU). Or by a file, which also reaches ranks on other machines. The
processes between the run and its stages (fork server, torchrun) must outlive such a signal, or
nothing is saved.

A stage that trains checks its `StopRequest` between two steps. Any other stage has nothing to save
and exits by an exception, wherever it is.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from continuum.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)
POLL_S = 0.2

_requested = threading.Event()


class _Exit(SystemExit):
    """Not an `Exception`: a library that tries whether another can be imported would catch it."""


class StopRequest:
    """Whether this process was asked to stop; checks for the file a few times a second."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._checked_at = -POLL_S

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._file is not None and now - self._checked_at >= POLL_S:
            self._checked_at = now
            if self._file.exists():
                _requested.set()
        return _requested.is_set()


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that request a stop: all but those that were ignored when the process started.

    `nohup` ignores SIGHUP. SIGTERM always counts: a run stops its workers with it.
    """
    ignored = {number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN}
    return tuple(it for it in SIGNALS if it is signal.SIGTERM or it not in ignored)


def install_signal_handlers() -> None:
    """Let the signals request a stop, including those that arrived while they were blocked.

    SIGINT is left to the run: the terminal sends it to every process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handled = stop_signals()
    for number in handled:
        signal.signal(number, _request_stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)


def block_signals() -> None:
    """Block the signals in a process that only starts others, which inherit the block.

    The process may still wait for one of them in a thread.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *SIGNALS))


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Start a process with the signals blocked until it installs its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *SIGNALS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def exit_on_signal() -> Iterator[None]:
    """Interrupt work that has no state worth saving.

    Raises:
        StoppedError: from wherever the work is when a signal arrives, or at once if one has.
    """
    handled = stop_signals()
    for number in handled:
        signal.signal(number, _exit)
    try:
        if _requested.is_set():
            _exit()
        yield
    except _Exit:
        raise StoppedError.with_nothing_saved() from None
    finally:
        for number in handled:
            signal.signal(number, _request_stop)


def _request_stop(_number: int, _frame: FrameType | None) -> None:
    _requested.set()


def _exit(*_: object) -> None:
    for number in stop_signals():
        signal.signal(number, _request_stop)  # Slurm and the run may each send theirs.
    raise _Exit
