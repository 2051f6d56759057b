"""Whether the machine was quiet while something was measured: what others took of it.

Load averages are told, and do not decide: a minute later they still hold the benchmark before.
What decides is /proc/stat, less what this process and its children took themselves.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_STOLEN = 0.02
"""Of all processors' time, by the hypervisor for other guests."""
MAX_OTHERS = 0.1
"""Of all processors' time, by processes that are not the benchmark's."""
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Quiet:
    """What was seen from the start of a measurement to its end."""

    load_before: float
    load_after: float
    stolen: float | None
    """Share of the processors' time; None where the kernel does not tell."""
    others: float | None

    @property
    def is_quiet(self) -> bool:
        """Whether figures of time mean what they say; not where nobody knows."""
        if self.stolen is None or self.others is None:
            return False
        return self.stolen <= MAX_STOLEN and self.others <= MAX_OTHERS

    def __str__(self) -> str:
        word = "quiet" if self.is_quiet else "not quiet"
        if self.stolen is None or self.others is None:
            seen = "what others took is not known"
        else:
            seen = f"stolen {self.stolen:.1%}, others {self.others:.1%}"
        return f"{word}: load {self.load_before:.1f} to {self.load_after:.1f}, {seen}"


class Watch:
    """Filled in when the context of `watched` is left."""

    found: Quiet | None = None

    @property
    def quiet(self) -> Quiet:
        """What was seen."""
        assert self.found is not None, "the watch has not ended"
        return self.found


@dataclass(frozen=True)
class _Moment:
    total_s: float
    busy_s: float
    stolen_s: float
    own_s: float

    def shares_since(self, start: "_Moment") -> tuple[float | None, float | None]:
        total = self.total_s - start.total_s
        if total <= 0:
            return None, None
        busy = self.busy_s - start.busy_s - (self.own_s - start.own_s)
        return (self.stolen_s - start.stolen_s) / total, max(0.0, busy / total)


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch the machine; processes that are measured are to end before the context is left."""
    watch, load, start = Watch(), os.getloadavg()[0], _moment()
    yield watch
    shares = _moment().shares_since(start)
    watch.found = Quiet(load, os.getloadavg()[0], *shares)


def _moment(stat: Path = STAT) -> _Moment:
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    try:
        words = stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        words = []
    if len(words) < 8:
        return _Moment(0.0, 0.0, 0.0, own)
    ticks = os.sysconf("SC_CLK_TCK")
    # user (with guests), nice, system, idle, iowait, irq, softirq, steal
    user, nice, system, idle, waiting, irq, soft, stolen = (int(word) / ticks for word in words)
    busy = user + nice + system + irq + soft
    return _Moment(busy + idle + waiting + stolen, busy, stolen, own)
