"""When and on how much text a training stage evaluates."""

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from continuum.experiment.amounts import COUNT_PATTERN, MAX_COUNT, Count, Period, Tokens
from continuum.experiment.fields import UNIT, Ref, Spec, runtime_field
from continuum.runs.artifacts import TokenizedDataset

DEFAULT_SEQUENCES = 80
Sequences = Annotated[
    Annotated[Count, Tag("[count]")] | Annotated[Literal["all"], Tag("[all]")],
    Discriminator(lambda it: "[all]" if isinstance(it, str) and it.isalpha() else "[count]"),
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 1,
            "maximum": MAX_COUNT,
            "pattern": f"{COUNT_PATTERN}|^all$",
            UNIT: "sequences",
            "examples": [80, "2k", "all"],
        }
    ),
]
"""A count of sequences, or `all`."""


def one_amount(value: dict[str, Any]) -> dict[str, Any]:
    """The fields of an evaluation, without the default of `sequences` if `tokens` is set."""
    if value.get("tokens") is None:
        return value
    if value.get("sequences") is not None:
        raise PydanticCustomError(
            "evaluate_amount", "'tokens' and 'sequences' are mutually exclusive; keep one of them"
        )
    return {**value, "sequences": None}


def num_sequences(
    sequences: int | str | None, tokens: int | None, sequence_length: int
) -> int | None:
    """How many sequences an evaluation takes, by either of its fields; None for `all`."""
    if tokens is not None:
        return math.ceil(tokens / sequence_length)
    return sequences if isinstance(sequences, int) else None


class Evaluate(Spec):
    """Evaluation of the loss on the validation split, during and after training."""

    every: Period | None = None
    """Interval; null evaluates only at the end."""
    sequences: Sequences | None = DEFAULT_SEQUENCES
    """Number of sequences of each validation split, or `all`. They are spread evenly over the
    split, the same each time, independent of micro-batches."""
    tokens: Tokens | None = None
    """Alternative to `sequences`: the number of tokens."""
    final: bool = True
    """Whether to evaluate after the last step."""
    at_start: bool | None = runtime_field(None)
    """Whether to evaluate before the first step too, as the first row of metrics.jsonl, which is
    never the best; null does so only in a `retrain`."""
    # Not strict: below a model validator, a record's list is not a tuple.
    on: tuple[Ref[TokenizedDataset], ...] = runtime_field(
        (), strict=False, examples=[["old_tokens"]]
    )
    """Additional datasets whose validation splits are evaluated, as `val_loss/NAME`; they are not
    trained on, and changing them does not rerun training."""

    @model_validator(mode="before")
    @classmethod
    def _counts_one_thing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "batches" in value:
            raise PydanticCustomError(
                "evaluate_batches",
                "'batches' was removed: evaluation counts sequences, independent of "
                "micro_batch_size; "
                "use `sequences: N` with N = batches x micro_batch_size",
            )
        return one_amount(value)

    @model_validator(mode="after")
    def _counts_something(self) -> "Evaluate":
        if self.sequences is None and self.tokens is None:
            raise PydanticCustomError(
                "evaluate_amount", "'sequences' must be a number or `all`, unless 'tokens' is set"
            )
        return self

    def num_sequences(self, num_blocks: int, sequence_length: int) -> int:
        """Number of sequences to evaluate in a split of `num_blocks`."""
        wanted = num_sequences(self.sequences, self.tokens, sequence_length)
        return num_blocks if wanted is None else min(num_blocks, wanted)


EVALUATIONS = [{"every": 100, "sequences": 80}]
"""Examples for a field."""
