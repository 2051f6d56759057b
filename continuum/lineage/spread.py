"""One function over many things, on all the processors."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from continuum.processors import num_processors

MANY = 500
"""Fewer things than this are not worth the start of a process."""
Thing = TypeVar("Thing")
Result = TypeVar("Result")

_shared: list[Callable[[Any], Any]] = []
"""In a forked process: the function, with what it holds, which no pipe need carry."""


def spread(function: Callable[[Thing], Result], things: Sequence[Thing]) -> list[Result]:
    """The function's results in the order of the things.

    Where the system cannot fork, has one processor, or kills a process, the work is done here.
    """
    num_processes = num_processors()
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    if len(things) < MANY or num_processes == 1 or not can_fork:
        return [function(thing) for thing in things]
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    share = -(-len(things) // num_processes)
    try:
        with ProcessPoolExecutor(num_processes, context, _begin, (function,)) as pool:
            return list(pool.map(_call, things, chunksize=share))
    except BrokenProcessPool:
        return [function(thing) for thing in things]


def _begin(function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked for the work ends it
    _shared.append(function)


def _call(thing: Any) -> Any:
    return _shared[-1](thing)
