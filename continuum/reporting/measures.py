"""Losses of a run, each with the data it was measured on.

Two losses are comparable if they were measured on the same tokens in sequences of the same length:
names of stages do not count, digests do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from continuum.runs.artifacts import (
    VALIDATION_LOSS,
    Evaluation,
    TokenizedDataset,
    TrainingCheckpoint,
    best_of,
    best_step,
)
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord, with_sequences

TRAINING_LOSS = "loss"
SCORES = ("bits_per_byte", "eval_loss", "perplexity", "accuracy")
"""What a stage `evaluate` measures of a model."""
When = Literal["final", "best", "at", "scored"]
STATED = ("sequences", "tokens")


@dataclass(frozen=True)
class DataShare:
    """A dataset that a loss was measured on."""

    digest: str
    share: float | None = None
    """Its share of the batches of a training; None for an evaluation."""
    name: str = field(default="", compare=False)
    """Of the stage that made it."""


@dataclass(frozen=True)
class Measure:
    """A loss, and what it was measured on; equal measures are comparable."""

    metric: str
    """`val_loss`, `loss` of a step's batch, or one of `SCORES`."""
    data: tuple[DataShare, ...]
    sequence_length: int
    num_sequences: int | str | None
    """Evaluated sequences, or the spec's words if their number is unknown; None for a batch."""
    split: str = "validation"
    tokenization: str | None = None
    """Of a score: the tokenizer's digest, without which losses per token are not comparable, and
    the special tokens around documents; bits per byte of an entire text need only these."""

    @property
    def data_name(self) -> str:
        """The stages that made the datasets: `new+old`."""
        return "+".join(it.name for it in self.data)

    def as_json(self) -> dict[str, Any]:
        """The measure with the full digests of its datasets."""
        shares = [{"stage": it.name, "sha256": it.digest, "share": it.share} for it in self.data]
        return {
            "metric": self.metric,
            "data": shares,
            "sequence_length": self.sequence_length,
            "num_sequences": self.num_sequences,
            "split": self.split,
            "tokenization": self.tokenization,
        }


@dataclass(frozen=True)
class Reading:
    """A value of a measure."""

    value: float
    step: int
    tokens: int | None
    """Training tokens of the stage until then."""
    is_provisional: bool = False
    """Whether the run is not complete, or its last value is not of its last step."""


Readings = Mapping[tuple[When, Measure], Reading]


def measures_of(
    record: StageRecord, datasets: Mapping[str, TokenizedDataset | None]
) -> dict[str, Measure]:
    """What a training run measures, by the name of the column in `metrics.jsonl`.

    Args:
        datasets: By reference; None for those that are not there any more.
    """
    recipe = with_sequences(record.recipe or {})
    length = recipe.get("sequence_length", 0)
    digests = {used.ref: used.digest for used in record.inputs}
    mixture = {ref: share for ref, share in recipe.get("data", {}).items() if ref in digests}
    shares = tuple(DataShare(digests[ref], share, ref) for ref, share in mixture.items())
    found = {TRAINING_LOSS: Measure(TRAINING_LOSS, shares, length, None)} if shares else {}
    evaluate = recipe.get("evaluate")
    if evaluate is None:
        return found
    evaluated = [ref for ref in (*mixture, *evaluate.get("on", ())) if ref in digests]
    for ref in evaluated:
        amount = _num_sequences(evaluate, datasets.get(ref), length)
        column = f"{VALIDATION_LOSS}/{ref}" if len(evaluated) > 1 else VALIDATION_LOSS
        part = DataShare(digests[ref], None, ref)
        found[column] = Measure(VALIDATION_LOSS, (part,), length, amount)
    return found


def scores_in(made: Evaluation, record: StageRecord) -> Iterator[tuple[str, Measure, float | None]]:
    """The digest of each model that a stage has evaluated, and its scores.

    Args:
        record: Of the stage.
    """
    is_entire = record.spec.get("sequences") == "all" and record.spec.get("tokens") is None
    document = str(record.spec.get("document"))
    for score in made.scores:
        data = (DataShare(score.text_digest, None, score.text),)
        own = f"{score.vocabulary_digest} {document}"
        length, number = score.sequence_length, score.num_sequences
        values = (score.bits_per_byte, score.loss, score.perplexity, score.accuracy)
        for metric, value in zip(SCORES, values, strict=True):
            is_of_bytes = metric == "bits_per_byte" and is_entire
            amount, tokens = ("all", document) if is_of_bytes else (number, own)
            measure = Measure(metric, data, length, amount, score.split, tokens)
            yield score.model_digest, measure, value


def _num_sequences(
    evaluate: Mapping[str, Any], dataset: TokenizedDataset | None, length: int
) -> int | str | None:
    """The sequences of an evaluation; what the spec asks for if the dataset is unknown."""
    split = dataset.validation if dataset is not None else None
    sequences, tokens = (evaluate.get(name) for name in STATED)
    if split is None:
        return sequences if sequences is not None else f"{tokens} tokens"
    num_blocks = split.num_blocks(length)
    if sequences == "all":
        return num_blocks
    asked = sequences if tokens is None else -(-tokens // length)
    return min(num_blocks, int(asked or 0))


def read_measures(
    run: StageRun,
    measures: Mapping[str, Measure],
    artifact: TrainingCheckpoint | None,
    at: int | None,
) -> dict[tuple[When, Measure], Reading]:
    """The last, the best and an intermediate value of each measure.

    Args:
        artifact: The result of a complete run.
        at: A number of training tokens: the last value until then, of a run that got that far.

    Raises:
        IntegrityError: `metrics.jsonl` cannot be read.
    """
    rows = run.metrics() if at is not None else run.metrics(having=VALIDATION_LOSS)
    found: dict[tuple[When, Measure], Reading] = {}
    for column, measure in measures.items():
        of_column = [row for row in rows if column in row]
        if column == TRAINING_LOSS and at is None:
            last = _last_loss(run, artifact)
        else:
            last = _last_of(of_column, column, artifact)
        if last is not None:
            found["final", measure] = last
        best = None if column == TRAINING_LOSS else _best_of(run, of_column, column, artifact)
        if best is not None:
            found["best", measure] = best
        then = _reading_at(of_column, column, at, artifact, rows)
        if then is not None:
            found["at", measure] = then
    return found


def _reading(
    row: Mapping[str, Any], column: str, *, is_provisional: bool = False
) -> Reading | None:
    """The value in a row; None if it was NaN or inf, which the row has as null."""
    value = row[column]
    if value is None:
        return None
    return Reading(value, row["step"], row.get("tokens"), is_provisional)


def _last_of(
    rows: list[dict[str, Any]], column: str, artifact: TrainingCheckpoint | None
) -> Reading | None:
    if not rows:
        return None
    is_provisional = artifact is None or rows[-1]["step"] < artifact.step
    return _reading(rows[-1], column, is_provisional=is_provisional)


def _last_loss(run: StageRun, artifact: TrainingCheckpoint | None) -> Reading | None:
    """The loss of the last step, without reading all rows of a complete run."""
    if artifact is None:
        return _last_of(run.metrics(having='"lr"'), TRAINING_LOSS, None)
    loss = artifact.metrics.get(TRAINING_LOSS)
    return None if loss is None else Reading(loss, artifact.step, artifact.tokens_seen)


def _best_of(
    run: StageRun,
    rows: list[dict[str, Any]],
    column: str,
    artifact: TrainingCheckpoint | None,
) -> Reading | None:
    """The recorded best, as `@best` selects it; the lowest value if none was recorded."""
    step = best_step(artifact.metrics, column) if artifact is not None else None
    if step is None:
        best = best_of(rows, column)
        if best is not None and best[1] == rows[0]["step"]:
            # An evaluation before the first step of a `resume` measures its parent.
            first = next(iter(run.metrics(having='"lr"')), {"step": 0})
            best = best_of(rows if first["step"] <= best[1] else rows[1:], column)
        step = best[1] if best is not None else None
    found = (row for row in rows if row["step"] == step)
    is_provisional = artifact is None
    return next((_reading(row, column, is_provisional=is_provisional) for row in found), None)


def _reading_at(
    rows: list[dict[str, Any]],
    column: str,
    at: int | None,
    artifact: TrainingCheckpoint | None,
    all_rows: list[dict[str, Any]],
) -> Reading | None:
    if at is None or not all_rows:
        return None
    reached = artifact.tokens_seen if artifact is not None else all_rows[-1].get("tokens", 0)
    before = [row for row in rows if row.get("tokens", at + 1) <= at]
    return _reading(before[-1], column) if before and reached >= at else None
