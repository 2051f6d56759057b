"""Cost of a planned stage: sizes from its forecast, time from the speed of earlier runs."""

import re
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from continuum.formatting import format_bytes, format_flops, format_seconds
from continuum.planning.plan import Action, Plan, PlannedStage
from continuum.runs.folder import StageRun

TAIL_BYTES = 1 << 14
"""Read from the end of metrics.jsonl: about a hundred rows."""
_SPEED = re.compile(rb'"tokens_per_s": ?([0-9][0-9.eE+-]*)')
KEPT = ("tokens", "steps", "flops", "checkpoint_bytes", "disk_bytes", "memory_bytes")
_WORDS: Mapping[str, Callable[[float], str]] = {
    "tokens": lambda value: f"{value:,.0f} training tokens",
    "flops": format_flops,
    "disk_bytes": lambda value: f"{format_bytes(value)} of disk",
    "seconds": lambda value: f"{format_seconds(value)} at the speed of earlier runs",
}
SUMMED = ("tokens", "steps", "flops", "disk_bytes", "seconds")


@dataclass(frozen=True)
class Cost:
    """Remaining work of a stage; empty if it is reused."""

    figures: Mapping[str, int | float]
    """Those that are known of `tokens`, `steps`, `flops`, `checkpoint_bytes`, `disk_bytes`,
    `memory_bytes` and `seconds`."""
    basis: str | None = None
    """The run whose speed the seconds are estimated from."""
    is_certain: bool = True
    """False for a stage that may be reused."""

    def as_json(self) -> dict[str, Any]:
        """The figures and their basis."""
        return {**self.figures, **({"basis": self.basis} if self.basis else {})}


def estimate_costs(plan: Plan) -> dict[str, Cost]:
    """The cost of every stage, by name."""
    if not plan.has_work:
        return {planned.name: Cost({}) for planned in plan}
    speeds, costs = dict[str, tuple[float, str]](), dict[str, Cost]()
    for planned in plan:
        runs = plan.history.runs_of(planned.run.stage_name)
        own = ((pace, run.name) for run in runs if (pace := tokens_per_s_of(run)))
        parents = (speeds[ref.stage] for ref in planned.refs if ref.stage in speeds)
        # As fast as the stage's own runs, or else as those of the models it starts from.
        speed = next(own, None) or next(parents, None)
        if speed is not None:
            speeds[planned.name] = speed
        costs[planned.name] = _cost(planned, speed, runs)
    return costs


def known_figures(planned: PlannedStage) -> dict[str, int | float]:
    """Size of a stage, as far as it is known before it runs."""
    facts = planned.forecast.facts
    return {k: v for k, v in facts.items() if k in KEPT and isinstance(v, (int, float))}


def total(costs: Mapping[str, Cost], *, with_checked: bool = False) -> dict[str, int | float]:
    """Sums over the stages that run, and optionally over those that may have to."""
    counted = (cost.figures for cost in costs.values() if cost.is_certain or with_checked)
    return sum_figures(counted, SUMMED)


def sum_figures(
    figures: Iterable[Mapping[str, int | float]], names: Collection[str]
) -> dict[str, int | float]:
    """Sums of these figures, where they are known."""
    sums: dict[str, int | float] = {}
    for each in figures:
        for name in names:
            if name in each:
                sums[name] = sums.get(name, 0) + each[name]
    return sums


def in_words(
    figures: Mapping[str, int | float], names: Collection[str], *, signed: bool = False
) -> str:
    """`1,000 training tokens, 1.2 PFLOPs`, without zeros; with signs for a change."""
    known = [(name, figures[name]) for name in names if figures.get(name)]
    signs = ("+" if signed and value > 0 else "" for _, value in known)
    return ", ".join(
        sign + _WORDS[name](value) for sign, (name, value) in zip(signs, known, strict=True)
    )


def _cost(planned: PlannedStage, speed: tuple[float, str] | None, runs: Sequence[StageRun]) -> Cost:
    if planned.action is Action.REUSE:
        return Cost({})
    figures, basis = _left_of(planned, known_figures(planned)), None
    if "tokens" in figures and speed is not None:
        figures["seconds"], basis = figures["tokens"] / speed[0], speed[1]
    elif "tokens" not in figures:
        took = ((seconds, run.name) for run in runs if (seconds := _duration_s(run)) is not None)
        if (last := next(took, None)) is not None:
            figures["seconds"], basis = last
    return Cost(figures, basis, is_certain=planned.action is not Action.CHECK)


def _left_of(planned: PlannedStage, figures: dict[str, int | float]) -> dict[str, int | float]:
    """The figures, scaled to the steps that are left if the stage resumes."""
    num_steps, steps = planned.forecast.num_steps, figures.get("steps")
    if planned.from_step is None or num_steps is None or not steps:
        return figures
    left = num_steps - planned.from_step
    scaled: dict[str, int | float] = {
        n: round(figures[n] * left / steps) for n in ("tokens", "flops") if n in figures
    }
    return {**figures, **scaled, "steps": left}


def tokens_per_s_of(run: StageRun) -> float | None:
    """The median over the last rows of metrics.jsonl."""
    try:
        with run.metrics_path.open("rb") as file:
            file.seek(0, 2)
            start = max(0, file.tell() - TAIL_BYTES)
            file.seek(start)
            finished, _, _ = file.read().rpartition(b"\n")
    except OSError:
        return None
    # Parsing all rows would take most of the time of a command that reads many runs.
    speeds = [speed for found in _SPEED.findall(finished) if (speed := float(found))]
    return statistics.median(speeds) if speeds else None


def _duration_s(run: StageRun) -> float | None:
    """Duration of the first attempt that succeeded."""
    started: dict[int, str] = {}
    for line in run.attempts():
        if line["event"] == "started":
            started[line["attempt"]] = line["at"]
        elif line.get("status") == "done" and line["attempt"] in started:
            begun = datetime.fromisoformat(started[line["attempt"]])
            return (datetime.fromisoformat(line["at"]) - begun).total_seconds()
    return None
