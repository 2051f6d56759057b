"""The metrics of the stages that train, over the tokens of their whole ancestry."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from continuum.errors import IntegrityError
from continuum.formatting import plural
from continuum.planning.plan import Plan, PlannedStage
from continuum.runs.artifacts import Checkpoint, TrainingCheckpoint
from continuum.runs.folder import StageRun

VALIDATION = "val_loss"
RECOVERED, SKIPPED = "recovered", "skipped steps"
MAX_POINTS = 8_000
"""Points of one chart; longer series are thinned."""
MIN_POINTS_EACH = 40


class Point(NamedTuple):
    """A value after a number of training tokens."""

    tokens: float
    value: float


class Mark(NamedTuple):
    """Something that happened in a training."""

    tokens: float
    what: str
    """`RECOVERED` or `SKIPPED`."""
    text: str


@dataclass(frozen=True)
class Training:
    """What a stage has logged; tokens count from the first model of its ancestry that is known."""

    stage: str
    start: float
    """Tokens of its ancestors."""
    has_known_start: bool
    """False if its ancestors were trained elsewhere, on an unknown number of tokens."""
    rows: Sequence[Mapping[str, Any]]
    offset: float
    """Difference between the tokens of the axis and those of the rows."""
    datasets: tuple[str, ...]
    """The datasets that it reads, of the mixture."""
    marks: tuple[Mark, ...] = ()

    def points(self, metric: str) -> list[Point]:
        """The values of a column, without those that are NaN or missing."""
        found = ((row, row.get(metric)) for row in self.rows)
        return [
            Point(row.get("tokens", 0) + self.offset, float(value))
            for row, value in found
            if isinstance(value, (int, float))
        ]

    @property
    def end(self) -> float:
        """Tokens after the last row."""
        tokens = [row["tokens"] for row in self.rows if "tokens" in row]
        return max(tokens) + self.offset if tokens else self.start

    @property
    def validation(self) -> dict[str, str]:
        """The column of each dataset's validation loss, by dataset."""
        columns = dict.fromkeys(key for row in self.rows for key in row)
        prefix = f"{VALIDATION}/"
        named = {key.removeprefix(prefix): key for key in columns if key.startswith(prefix)}
        if not named and VALIDATION in columns and len(self.datasets) == 1:
            return {self.datasets[0]: VALIDATION}
        return named

    def speed(self) -> float | None:
        """The median of the tokens per second."""
        found = sorted(row["tokens_per_s"] for row in self.rows if row.get("tokens_per_s"))
        return found[len(found) // 2] if found else None

    def peak_bytes(self) -> int | None:
        """The most memory that a logged step had used."""
        return max(
            (row["memory_bytes"] for row in self.rows if row.get("memory_bytes")), default=None
        )


def read_trainings(plan: Plan) -> dict[str, Training]:
    """The trainings that have logged anything, by stage, in the order of the stages.

    A stage whose `metrics.jsonl` cannot be read is left out.
    """
    found: dict[str, Training] = {}
    ends: dict[str, _End] = {}
    for planned in plan:
        if not issubclass(planned.stage.produces, Checkpoint):
            continue
        start = _start(plan, planned, ends, found)
        training = _read(planned, start) if planned.stage.trains else None
        if training is not None:
            found[planned.name] = training
            start = _End(training.end, training.has_known_start)
        ends[planned.name] = start
    return found


class _End(NamedTuple):
    """The tokens of a model, and whether these are all."""

    tokens: float
    is_known: bool


def _start(
    plan: Plan, planned: PlannedStage, ends: Mapping[str, _End], trainings: Mapping[str, Training]
) -> _End:
    """Where the model that a stage starts from, or makes, stands on the axis."""
    ref = next((it for it in planned.refs if it.stage in ends), None)
    if ref is None:
        made = planned.existing.artifact
        return _End(0.0, not isinstance(made, Checkpoint) or made.has_known_total)
    selected, training = plan.state.artifact_of(ref), trainings.get(ref.stage)
    if isinstance(selected, TrainingCheckpoint) and training is not None:
        return _End(selected.tokens_seen + training.offset, training.has_known_start)
    return ends[ref.stage]


def _read(planned: PlannedStage, start: _End) -> Training | None:
    run = planned.run
    try:
        rows, attempts = run.metrics(), run.attempts()
    except IntegrityError:
        return None
    if not rows:
        return None
    total = next((row for row in rows if row.get("tokens_total") is not None), None)
    if total is not None:
        offset, is_known = float(total["tokens_total"] - total["tokens"]), True
    else:
        offset, is_known = start.tokens - _first_tokens(planned), start.is_known
    first = offset + _first_tokens(planned)
    recipe = planned.recipe
    datasets = tuple(map(str, getattr(recipe, "data", None) or ()))
    marks = tuple(_marks(rows, attempts, offset))
    return Training(planned.name, first, is_known, rows, offset, datasets, marks)


def _first_tokens(planned: PlannedStage) -> float:
    """The tokens that the counter of a stage starts from: a resume continues that of its parent."""
    steps = planned.forecast.facts.get("steps")
    recipe, num_steps = planned.recipe, planned.forecast.num_steps
    each = getattr(recipe, "tokens_per_step", None)
    if not isinstance(steps, int) or num_steps is None or each is None:
        return 0.0
    return float((num_steps - steps) * each)


def _marks(
    rows: Sequence[Mapping[str, Any]], attempts: Sequence[Mapping[str, Any]], offset: float
) -> Iterator[Mark]:
    tokens = {row["step"]: row["tokens"] for row in rows if "tokens" in row}
    for line in attempts:
        if line["event"] == "recovered":
            step = line["step"]
            at = max((it for it in tokens if it <= step), default=min(tokens, default=0))
            exact = "" if line.get("exact", True) else ", not bit-exact"
            yield Mark(tokens.get(at, 0) + offset, RECOVERED, f"resumed from step {step:,}{exact}")
    before = 0
    for row in rows:
        now = row.get("skipped_steps")
        if isinstance(now, int):
            if now > before:
                text = f"{plural(now - before, 'step')} skipped up to step {row['step']:,}"
                yield Mark(row["tokens"] + offset, SKIPPED, text)
            before = now


def thinned(points: Sequence[Point], limit: int) -> Sequence[Point]:
    """The lowest and the highest point of each interval, if there are more than `limit`."""
    if len(points) <= limit:
        return points
    num_bins = max(1, (limit - 2) // 2)
    inner = points[1:-1]
    kept = [points[0]]
    for number in range(num_bins):
        part = inner[len(inner) * number // num_bins : len(inner) * (number + 1) // num_bins]
        low = min(part, key=lambda it: it.value)
        high = max(part, key=lambda it: it.value)
        kept += [low] if low == high else sorted((low, high))
    return [*kept, points[-1]]


def points_each(num_series: int) -> int:
    """How many points a series of a chart may have."""
    return max(MIN_POINTS_EACH, MAX_POINTS // max(1, num_series))


def final_losses(run: StageRun) -> Mapping[str, float]:
    """The last and the best losses of a complete training."""
    artifact = run.artifact() if run.is_complete else None
    return artifact.metrics if isinstance(artifact, TrainingCheckpoint) else {}
