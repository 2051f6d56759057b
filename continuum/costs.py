"""What a planned stage will take: sizes from its forecast, time from how fast earlier runs were."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from continuum.existing import History
from continuum.plan import Action, Plan, PlannedStage
from continuum.runs import StageRun

TAIL_BYTES = 1 << 14
"""Of metrics.jsonl: enough for the last hundred rows or so."""
KEPT = ("tokens", "steps", "flops", "checkpoint_bytes", "disk_bytes", "memory_bytes")
SUMMED = ("tokens", "steps", "flops", "disk_bytes", "seconds")


@dataclass(frozen=True)
class Cost:
    """What is left to do of one stage; no figures for one that is reused."""

    figures: Mapping[str, int | float]
    """`tokens`, `steps`, `flops`, `checkpoint_bytes`, `disk_bytes`, `memory_bytes`, `seconds`:
    what is known."""
    basis: str | None = None
    """The run whose speed the seconds are reckoned from."""
    is_certain: bool = True
    """False for a stage that may be reused after all."""

    def as_json(self) -> dict[str, Any]:
        """The figures and their basis."""
        return {**self.figures, **({"basis": self.basis} if self.basis else {})}


@dataclass(frozen=True)
class _Speed:
    tokens_per_s: float
    basis: str
    """The run it was seen in."""


def estimate_costs(plan: Plan) -> dict[str, Cost]:
    """The cost of every stage by its name."""
    if not plan.has_work:
        return {planned.name: Cost({}) for planned in plan}
    history = History(plan.folder)
    speeds = _speeds(plan, history)
    return {p.name: _cost(p, speeds.get(p.name), history) for p in plan}


def total(costs: Mapping[str, Cost], *, with_checked: bool = False) -> dict[str, int | float]:
    """Sums of what is known, over the stages that run; or over those, too, that may have to."""
    sums: dict[str, int | float] = {}
    for cost in costs.values():
        if not (cost.is_certain or with_checked):
            continue
        for name in SUMMED:
            if name in cost.figures:
                sums[name] = sums.get(name, 0) + cost.figures[name]
    return sums


def _cost(planned: PlannedStage, speed: _Speed | None, history: History) -> Cost:
    if planned.action is Action.REUSE:
        return Cost({})
    facts = planned.forecast.facts
    figures = {k: v for k, v in facts.items() if k in KEPT and isinstance(v, (int, float))}
    figures = _left_of(planned, figures)
    seconds, basis = None, None
    if "tokens" in figures and speed is not None:
        seconds, basis = figures["tokens"] / speed.tokens_per_s, speed.basis
    elif "tokens" not in figures:
        seconds, basis = _earlier_duration(history.runs_of(planned.run.stage_name))
    if seconds is not None:
        figures["seconds"] = seconds
    return Cost(figures, basis, is_certain=planned.action is not Action.CHECK)


def _earlier_duration(runs: list[StageRun]) -> tuple[float | None, str | None]:
    """How long the newest finished run took, and its name."""
    for run in runs:
        seconds = _duration_s(run)
        if seconds is not None:
            return seconds, run.name
    return None, None


def _left_of(planned: PlannedStage, figures: dict[str, int | float]) -> dict[str, int | float]:
    """The figures of a recovery: only the steps after its checkpoint."""
    num_steps, steps = planned.forecast.num_steps, figures.get("steps")
    if planned.from_step is None or num_steps is None or not steps:
        return figures
    left = num_steps - planned.from_step
    scaled: dict[str, int | float] = {
        name: round(figures[name] * left / steps) for name in ("tokens", "flops") if name in figures
    }
    return {**figures, **scaled, "steps": left}


def _speeds(plan: Plan, history: History) -> dict[str, _Speed]:
    """How fast each model trains: as in the stage's own runs, else as in those it came from."""
    speeds: dict[str, _Speed] = {}
    for planned in plan:
        runs = history.runs_of(planned.run.stage_name)
        own = (_Speed(s, r.name) for r in runs if (s := _tokens_per_s(r)))
        parents = (speeds[ref.stage] for ref in planned.refs if ref.stage in speeds)
        speed = next(own, None) or next(parents, None)
        if speed is not None:
            speeds[planned.name] = speed
    return speeds


def _tokens_per_s(run: StageRun) -> float | None:
    """The median over the last rows of metrics.jsonl."""
    try:
        with run.metrics_path.open("rb") as file:
            file.seek(0, 2)
            start = max(0, file.tell() - TAIL_BYTES)
            file.seek(start)
            lines = file.read().splitlines()[1 if start else 0 :]
    except OSError:
        return None
    speeds = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # A line that is being written now.
        if row.get("tokens_per_s"):
            speeds.append(float(row["tokens_per_s"]))
    return statistics.median(speeds) if speeds else None


def _duration_s(run: StageRun) -> float | None:
    """How long the attempt that ended well took."""
    started: dict[int, str] = {}
    for line in run.attempts():
        if line["event"] == "started":
            started[line["attempt"]] = line["at"]
        elif line.get("status") == "done" and line["attempt"] in started:
            begun = datetime.fromisoformat(started[line["attempt"]])
            return (datetime.fromisoformat(line["at"]) - begun).total_seconds()
    return None
