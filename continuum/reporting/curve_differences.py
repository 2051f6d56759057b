"""Compare the losses of two runs step by step: where they first differ, and by how much."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from continuum.reporting.measures import TRAINING_LOSS
from continuum.reporting.run_facts import RunFacts


@dataclass(frozen=True)
class Point:
    """A step of both runs; None is a loss that was NaN or inf."""

    step: int
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """The second loss minus the first."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first


@dataclass(frozen=True)
class CurveDifference:
    """One loss of two runs, at the steps at which both have it."""

    name: str
    num_steps: int
    """Steps that both have."""
    only_first: int
    """Steps that only the first run has."""
    only_second: int
    first_difference: Point | None
    largest_difference: Point | None
    last: Point | None

    def as_json(self) -> dict[str, Any]:
        """The numbers, each point with its difference."""
        found = asdict(self)
        for name in ("first_difference", "largest_difference", "last"):
            point: Point | None = getattr(self, name)
            if point is not None:
                found[name] = {**asdict(point), "difference": point.difference}
        return found


def compare_curves(first: RunFacts, second: RunFacts) -> Iterator[CurveDifference]:
    """Each loss that both runs measured on the same data, the training loss first.

    Raises:
        IntegrityError: a row of `metrics.jsonl` cannot be read.
    """
    if first.run is None or second.run is None:
        return
    rows = first.run.metrics(), second.run.metrics()
    others = {measure: column for column, measure in second.measures.items()}
    for column, measure in sorted(first.measures.items(), key=lambda it: it[0] != TRAINING_LOSS):
        if measure in others:
            curves = _curve(rows[0], column), _curve(rows[1], others[measure])
            if any(curves):
                yield _compare(f"{measure.metric}/{measure.data_name}", *curves)


def _curve(rows: list[dict[str, Any]], column: str) -> dict[int, float | None]:
    return {row["step"]: row[column] for row in rows if column in row}


def _compare(
    name: str, first: Mapping[int, float | None], second: Mapping[int, float | None]
) -> CurveDifference:
    points = [Point(step, first[step], second[step]) for step in sorted(first.keys() & second)]
    differing = [it for it in points if it.first != it.second]
    finite = [it for it in differing if it.difference is not None]
    return CurveDifference(
        name=name,
        num_steps=len(points),
        only_first=len(first) - len(points),
        only_second=len(second) - len(points),
        first_difference=differing[0] if differing else None,
        largest_difference=max(finite, key=lambda it: abs(it.difference or 0.0), default=None),
        last=points[-1] if points else None,
    )
