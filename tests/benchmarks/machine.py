"""Whether the machine had time for a measurement: what others did on it, and what a host stole.

A ratio of two measurements that take turns stands a little noise; one whose sides use the machine
differently (threads, memory, the disk) does not. So rows that need a quiet machine say whether they
had one, and get no verdict where they had not.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 2.0
"""How long the machine is watched before and after a benchmark, while nothing of it runs."""
QUIET_SHARE = 0.1
"""Most that others may take of the processors then."""
STOLEN_SHARE = 0.02
"""Most that the host may take of them meanwhile, for other machines."""
BUSY, STOLEN = (0, 1, 2, 5, 6), 7
"""Fields of the first line of /proc/stat: user, nice, system, irq, softirq; steal (proc(5))."""


@dataclass(frozen=True)
class Noise:
    """What disturbed a measurement, as shares of all processors."""

    others_before: float
    others_after: float
    stolen: float
    load: float
    """The load average of a minute before it began."""

    @property
    def is_quiet(self) -> bool:
        """True if nothing noticeable did."""
        others = max(self.others_before, self.others_after)
        return others <= QUIET_SHARE and self.stolen <= STOLEN_SHARE

    def __str__(self) -> str:
        return (
            f"load {self.load:.1f}, others {self.others_before:.0%} before and "
            f"{self.others_after:.0%} after, stolen {self.stolen:.0%}"
        )


@contextmanager
def watched(look_s: float = LOOK_S) -> Iterator[list[Noise]]:
    """Watch the machine around a measurement; the list holds the `Noise` when it has ended."""
    found: list[Noise] = []
    load = os.getloadavg()[0]
    before = _busy_share(look_s)
    start, start_s = _ticks(), time.monotonic()
    yield found
    elapsed_s = time.monotonic() - start_s
    stolen = _share(_ticks()[1] - start[1], elapsed_s)
    found.append(Noise(before, _busy_share(look_s), stolen, load))


def _busy_share(look_s: float) -> float:
    busy, start_s = _ticks()[0], time.monotonic()
    time.sleep(look_s)
    return _share(_ticks()[0] - busy, time.monotonic() - start_s)


def _share(ticks: int, elapsed_s: float) -> float:
    of_all = elapsed_s * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
    return ticks / of_all


def _ticks(path: Path = Path("/proc/stat")) -> tuple[int, int]:
    """Clock ticks of all processors since the start: at work, and stolen by the host."""
    fields = [int(word) for word in path.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    return sum(fields[which] for which in BUSY), fields[STOLEN]
