"""Trainings that take turns, a step of one and a step of the next, each in its own process.

Speeds on a shared machine change within seconds, so whole runs beside each other say little. Here
each process stops after every step and waits for its next turn; what it tells of a turn is how
long it was at work.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time

from tests.benchmarks.commands import ROOT, now


@dataclass(frozen=True)
class Turn:
    """One turn of a process."""

    what: str
    """`train` (the optimizer steps of a row of the log) or `evaluate`."""
    wall_s: float
    cpu_s: float
    """Of the process, all threads, without its children."""
    peak_bytes: int
    """The largest resident set of the process until now."""
    device_bytes: int = 0
    """The most that its tensors took of a GPU until now."""


class Pace:
    """In the process that is paced: told of each step, it waits until the next one is wanted."""

    def __init__(self) -> None:
        # The libraries print on stdout; what they print goes where errors go.
        self._told = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._begin()

    def end_turn(self, what: str) -> None:
        """Tell how long it took; ends the process when no further step is wanted."""
        wall_s, cpu_s = now() - self._wall_s, process_time() - self._cpu_s
        turn = Turn(what, wall_s, cpu_s, peak_bytes(), peak_device_bytes())
        print(json.dumps(asdict(turn)), file=self._told, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # In the middle of a training that would go on.
        self._begin()

    def _begin(self) -> None:
        self._wall_s, self._cpu_s = now(), process_time()


class Paced:
    """The other end: a process that takes a turn when it is told to."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Path) -> None:
        self._process = process
        self._errors = errors
        self._is_waiting = False

    def turn(self) -> Turn:
        """Let it take its next turn.

        Raises:
            RuntimeError: it has ended; with the last of what it printed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._is_waiting:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._errors.read_text(encoding="utf-8")[-3000:])
        self._is_waiting = True
        return Turn(**json.loads(line))


def take_turns(processes: Sequence[Paced], rounds: int, warm_up: int) -> list[list[Turn]]:
    """A step or an evaluation of each, then of each again; who begins changes.

    Args:
        warm_up: Turns before the `rounds` that count.
    """
    turns: dict[Paced, list[Turn]] = {process: [] for process in processes}
    for number in range(warm_up + rounds):
        for process in processes if number % 4 < 2 else reversed(processes):
            turn = process.turn()
            if number >= warm_up:
                turns[process].append(turn)
    found = list(turns.values())
    assert all([t.what for t in each] == [t.what for t in found[0]] for each in found)
    return found


@contextmanager
def paced(
    module: str,
    *arguments: str | Path,
    errors: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Paced]:
    """A module of this package as a process, ended when the context is left.

    Args:
        errors: Where what it prints is written.
        environment: Variables that it gets besides this process's.
    """
    with errors.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            text=True,
        )
    with process:
        try:
            yield Paced(process, errors)
        finally:
            process.kill()


def peak_device_bytes() -> int:
    """The most that this process's tensors have taken of its GPU; 0 where it uses none."""
    import torch

    is_used = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
    return torch.cuda.max_memory_allocated() if is_used else 0


def peak_bytes() -> int:
    """The largest resident set of this process since it was started."""
    # getrusage would begin with that of the process it was forked from.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
