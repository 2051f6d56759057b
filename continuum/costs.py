"""What a planned stage will take: sizes from its forecast, time from how fast earlier runs were."""

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from continuum.history import History
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


def estimate_costs(plan: Plan) -> dict[str, Cost]:
    """The cost of every stage by its name."""
    history = History(plan.folder)
    return {planned.name: _cost(planned, plan, history) for planned in plan}


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


def _cost(planned: PlannedStage, plan: Plan, history: History) -> Cost:
    if planned.action is Action.REUSE:
        return Cost({})
    facts = planned.forecast.facts
    figures = {k: v for k, v in facts.items() if k in KEPT and isinstance(v, (int, float))}
    figures = _left_of(planned, figures)
    seconds, basis = _seconds(planned, plan, history, figures.get("tokens"))
    if seconds is not None:
        figures["seconds"] = seconds
    return Cost(figures, basis, is_certain=planned.action is not Action.CHECK)


def _seconds(
    planned: PlannedStage, plan: Plan, history: History, tokens: int | float | None
) -> tuple[float | None, str | None]:
    """How long the stage may take, and the run that says so."""
    if tokens is not None:
        speed, basis = next(_speeds(planned, plan, history), (None, None))
        return (None if speed is None else tokens / speed), basis
    for run in history.runs_of(planned.name):
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


def _speeds(planned: PlannedStage, plan: Plan, history: History) -> Iterator[tuple[float, str]]:
    """Tokens a second, and of which run: the stage's own, then those of the models it came from."""
    for run in history.runs_of(planned.name):
        speed = _tokens_per_s(run.metrics_path)
        if speed is not None:
            yield speed, run.name
    for ref in planned.refs:
        parent = plan.stages[ref.stage]
        if parent.forecast.architecture is not None:
            yield from _speeds(parent, plan, history)


def _tokens_per_s(path: Path) -> float | None:
    """The median over the last rows of metrics.jsonl."""
    try:
        with path.open("rb") as file:
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
