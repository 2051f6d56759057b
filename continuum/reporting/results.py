"""Evaluations and generated samples among the results of an experiment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from continuum.errors import IntegrityError
from continuum.planning.plan import Plan
from continuum.runs.artifacts import Evaluation, Score
from continuum.runs.files import read_json_lines

SAMPLES = "samples.jsonl"
LABELS = {"bits_per_byte": "Bits per byte", "loss": "Mean loss"}
"""What a matrix may show."""
HEADINGS = (
    "loss",
    "± standard error",
    "perplexity",
    "bits per byte",
    "accuracy",
    "tokens",
)
MAX_SAMPLES = 200


@dataclass(frozen=True)
class Sample:
    """A text that a model generated."""

    stage: str
    model: str
    prompt: str
    text: str


@dataclass(frozen=True)
class Matrix:
    """Models, in the order of their training, by texts."""

    models: tuple[str, ...]
    texts: tuple[str, ...]
    measure: str
    """A key of `LABELS`."""
    scores: Sequence[Score]

    @property
    def label(self) -> str:
        """The name of the measure."""
        return LABELS[self.measure]

    @property
    def values(self) -> dict[tuple[str, str], float]:
        """The measure of each pair of model and text; of several, that of the most tokens."""
        ordered = sorted(self.scores, key=lambda it: it.num_tokens)
        return {(it.model, it.text): float(getattr(it, self.measure)) for it in ordered}

    @property
    def is_comparable(self) -> bool:
        """Whether the values of a text may be compared."""
        return self.measure != "loss" or len({it.vocabulary_digest for it in self.scores}) == 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings of the numbers in `rows`."""
        return HEADINGS

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Model, text, and the numbers as text."""
        return [(it.model, f"{it.text} ({it.split})", *_numbers(it)) for it in self.scores]


def make_matrix(scores: Sequence[Score]) -> Matrix | None:
    """The scores by model and text; None if there are none."""
    if not scores:
        return None
    has_bits = all(it.bits_per_byte is not None for it in scores)
    return Matrix(
        models=tuple(dict.fromkeys(it.model for it in scores)),
        texts=tuple(dict.fromkeys(it.text for it in scores)),
        measure="bits_per_byte" if has_bits else "loss",
        scores=scores,
    )


def _numbers(it: Score) -> Iterator[str]:
    yield f"{it.loss:.4f}"
    yield f"{it.standard_error:.4f}" if it.standard_error is not None else ""
    yield f"{it.perplexity:,.2f}"
    yield f"{it.bits_per_byte:.4f}" if it.bits_per_byte is not None else ""
    yield f"{it.accuracy:.1%}"
    yield f"{it.num_tokens:,}"


def read_scores(plan: Plan) -> list[Score]:
    """The scores of all evaluations, models in the order of their training."""
    order = {planned.name: number for number, planned in enumerate(plan)}
    artifacts = (planned.existing.artifact for planned in plan)
    found = [it for each in artifacts if isinstance(each, Evaluation) for it in each.scores]
    return sorted(
        found, key=lambda it: (it.tokens_total, order.get(it.model.partition("@")[0], -1))
    )


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
