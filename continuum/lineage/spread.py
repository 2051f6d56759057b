"""One function over many things, on all the processor's cores."""

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

MANY = 500
"""Fewer things than this are not worth the start of a process."""
Thing = TypeVar("Thing")
Result = TypeVar("Result")


def spread(function: Callable[[Thing], Result], things: Sequence[Thing]) -> list[Result]:
    """The function's results in the order of the things.

    Forked processes share what the function holds without copying it; only results are sent.
    Where the system cannot fork, or has one core, the work is done here.
    """
    num_processes = _num_cores()
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    if len(things) < MANY or num_processes == 1 or not can_fork:
        return [function(thing) for thing in things]
    shares = [things[first::num_processes] for first in range(num_processes)]
    helpers = [_Helper(function, share) for share in shares[1:]]
    done = [[function(thing) for thing in shares[0]], *(helper.results() for helper in helpers)]
    return [done[number % num_processes][number // num_processes] for number in range(len(things))]


class _Helper:
    """A process that works on one share."""

    def __init__(self, function: Callable[[Thing], Result], share: Sequence[Thing]) -> None:
        self._redo = functools.partial(map, function, share)
        self._receiver, sender = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_work, args=(function, share, sender), daemon=True)
        self._process.start()
        sender.close()

    def results(self) -> list[Result]:
        """What it found; raises what it raised."""
        try:
            found: list[Result] | Exception = self._receiver.recv()
        except EOFError:  # it was killed
            return list(self._redo())
        self._process.join()
        if isinstance(found, Exception):
            raise found
        return found


def _work(function: Callable[[Thing], Result], share: Sequence[Thing], sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked for the work ends it
    try:
        sender.send([function(thing) for thing in share])
    except Exception as error:  # is raised again where the results are asked for
        sender.send(error)


def _num_cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
