"""Evaluations and generated samples among the results of an experiment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from continuum.errors import IntegrityError
from continuum.planning.plan import Plan
from continuum.reporting.curves import Training
from continuum.runs.files import read_json_lines

SAMPLES = "samples.jsonl"
LABELS = {
    "bits_per_byte": "Bits per byte",
    "loss": "Mean loss",
    "perplexity": "Perplexity",
    "accuracy": "Next-token accuracy",
}
MEASURES = tuple(LABELS)
MAX_SAMPLES = 200


@dataclass(frozen=True)
class Evaluated:
    """What a stage measured of one model on one dataset."""

    stage: str
    model: str
    dataset: str
    values: Mapping[str, float]
    """Those of `MEASURES`, `num_tokens` and `stderr` that are there."""


@dataclass(frozen=True)
class Sample:
    """A text that a model generated."""

    stage: str
    model: str
    prompt: str
    text: str


@dataclass(frozen=True)
class Matrix:
    """Models, in the order of their training, by datasets."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    measure: str
    """The first of `MEASURES` that every cell has."""
    cells: Mapping[tuple[str, str], Evaluated]

    @property
    def label(self) -> str:
        """The name of the measure."""
        return LABELS[self.measure]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The names and headings of the numbers that any cell has."""
        named = [*LABELS.items(), ("stderr", "standard error"), ("num_tokens", "tokens")]
        return [it for it in named if any(it[0] in cell.values for cell in self.cells.values())]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Model, dataset, and the numbers as text."""
        return [
            (*key, *(_number(name, cell.values.get(name)) for name, _ in self.columns))
            for key, cell in self.cells.items()
        ]

    @property
    def values(self) -> dict[tuple[str, str], float]:
        """The measure of each pair of model and dataset."""
        return {key: it.values[self.measure] for key, it in self.cells.items()}


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:,.0f}"
        if name == "num_tokens"
        else f"{value:.4g}"
        if name == "perplexity"
        else f"{value:.4f}"
    )


def make_matrix(evaluations: Sequence[Evaluated]) -> Matrix | None:
    """The evaluations by model and dataset; None if there are none."""
    common = [it for it in MEASURES if all(it in each.values for each in evaluations)]
    if not evaluations or not common:
        return None
    return Matrix(
        models=tuple(dict.fromkeys(it.model for it in evaluations)),
        datasets=tuple(dict.fromkeys(it.dataset for it in evaluations)),
        measure=common[0],
        cells={(it.model, it.dataset): it for it in evaluations},
    )


def read_evaluations(plan: Plan, trainings: Mapping[str, Training]) -> Iterator[Evaluated]:
    """The rows of all evaluations, models in the order of their training."""
    order = {planned.name: number for number, planned in enumerate(plan)}
    found = []
    for planned in plan:
        rows = getattr(planned.existing.artifact, "rows", ())
        for row in rows if isinstance(rows, (tuple, list)) else ():
            fields = row.model_dump() if isinstance(row, BaseModel) else row
            if isinstance(fields, dict) and {"model", "dataset"} <= fields.keys():
                numbers = {k: v for k, v in fields.items() if isinstance(v, (int, float))}
                found.append(
                    Evaluated(planned.name, str(fields["model"]), str(fields["dataset"]), numbers)
                )

    def trained(it: Evaluated) -> tuple[float, int, float]:
        stage, _, selector = it.model.partition("@")
        training = trainings.get(stage)
        step = selector.removeprefix("step-")
        last = float(step) if step.isdecimal() else float("inf")
        start = training.start if training is not None else 0.0
        return start, order.get(stage, -1), last

    yield from sorted(found, key=trained)


def read_samples(plan: Plan) -> Iterator[Sample]:
    """The generated texts of all stages, by prompt in the order of the files."""
    for planned in plan:
        artifact = planned.existing.artifact
        if artifact is None or not any(file.path == SAMPLES for file in artifact.files):
            continue
        try:
            rows = read_json_lines(artifact.path / SAMPLES, key="prompt")
        except IntegrityError:
            continue
        for row in rows[:MAX_SAMPLES]:
            text = _first(row, "text", "completion", "output", "generated")
            model = _first(row, "model", "ref", "stage")
            yield Sample(planned.name, model, str(row["prompt"]), text)


def _first(row: Mapping[str, Any], *names: str) -> str:
    return next((str(row[it]) for it in names if row.get(it) is not None), "")
