"""What a benchmark yields: ours against a reference, the ratio, the target, the verdict."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.quiet import Quiet


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """`tokens-per-second`, as `--only` and baseline.json name it; or `benchmark/row`."""
    what: str
    """In words."""
    reference: str
    """What it is held against."""
    reference_value: float
    ours_value: float
    unit: str
    target: float
    """For the ratio ours / reference."""
    more_is_better: bool = False
    note: str = ""
    """Circumstances, or why the target is missed."""
    quiet: Quiet | None = None
    """Of a row that needs a quiet machine: whether it had one. Else there is no verdict."""
    is_absolute: bool = False
    """Whether the reference is a limit in seconds: then another machine has another ratio, and it
    is not compared with a stored one."""

    @property
    def ratio(self) -> float:
        """Ours / reference."""
        return self.ours_value / self.reference_value

    @property
    def is_met(self) -> bool:
        """Whether the target is."""
        return self.ratio >= self.target if self.more_is_better else self.ratio <= self.target

    @property
    def has_verdict(self) -> bool:
        """Whether the ratio says something: another's load does not decide about us."""
        return self.quiet is None or self.quiet.is_quiet

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.has_verdict:
            return "not quiet: no verdict"
        return "met" if self.is_met else "MISSED"

    def is_regression(self, baseline: float, tolerance: float) -> bool:
        """Whether the ratio is worse than a stored one by more than the tolerance."""
        if self.is_absolute or not self.has_verdict:
            return False
        if self.more_is_better:
            return self.ratio < baseline * (1 - tolerance)
        return self.ratio > baseline * (1 + tolerance)

    def better_of(self, other: "Row") -> "Row":
        """The one whose ratio is better: noise of the machine only makes a measurement worse."""
        if self.has_verdict != other.has_verdict:
            return self if self.has_verdict else other
        is_better = other.ratio > self.ratio if self.more_is_better else other.ratio < self.ratio
        return other if is_better else self

    def as_json(self) -> dict[str, Any]:
        """The row with its ratio and verdict."""
        return {
            "name": self.name,
            "what": self.what,
            "reference": self.reference,
            "reference_value": self.reference_value,
            "ours_value": self.ours_value,
            "unit": self.unit,
            "ratio": self.ratio,
            "target": self.target,
            "more_is_better": self.more_is_better,
            "is_met": self.is_met if self.has_verdict else None,
            "verdict": self.verdict,
            "quiet": None if self.quiet is None else str(self.quiet),
            "is_absolute": self.is_absolute,
            "note": self.note,
        }


@dataclass(frozen=True)
class Setting:
    """What a benchmark may use."""

    work_dir: Path
    """Its own folder, removed at the end."""
    quick: bool
    """Smaller inputs and fewer rounds, for CI; ratios stay comparable with quick ones."""
    peers_dir: Path
    """Where the environments of other systems are kept between benchmarks."""
    rounds: int = 5


Benchmark = Callable[[Setting], Sequence[Row]]


@dataclass
class Registry:
    """All benchmarks by name, in the order of the table."""

    found: dict[str, Benchmark] = field(default_factory=dict)

    def __call__(self, name: str) -> Callable[[Benchmark], Benchmark]:
        """Decorate a benchmark; it may yield several rows, named `name` or `name/…`."""

        def register(benchmark: Benchmark) -> Benchmark:
            assert name not in self.found, f"two benchmarks are called {name}"
            self.found[name] = benchmark
            return benchmark

        return register


benchmark = Registry()


def paired(
    reference: Callable[[], float],
    ours: Callable[[], float],
    rounds: int,
    *,
    warm_up: bool = True,
) -> tuple[float, float]:
    """Medians of two measurements that take turns, see `in_turns`."""
    first, second = in_turns([reference, ours], rounds, warm_up=warm_up)
    return first, second


def in_turns(
    measurements: Sequence[Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> list[float]:
    """Medians of measurements that take turns, so that a slow minute hits all of them.

    The order is turned round each time; the first of each is a warm-up and does not count.
    """
    if warm_up:
        for measurement in measurements:
            measurement()
    values: list[list[float]] = [[] for _ in measurements]
    for number in range(rounds):
        order = range(len(measurements))
        for which in order if number % 2 == 0 else reversed(order):
            values[which].append(measurements[which]())
    return [statistics.median(found) for found in values]
