"""How a model is trained: the fields that `pretrain`, `resume` and `retrain` share, without torch.

A `Recipe` is complete: a `resume` inherits missing fields from its parent's recipe, so the worker
that trains never reads another stage. Tokens, percentages and epochs are converted to whole
optimizer steps here, once, for the plan and for the loop.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from continuum.experiment.amounts import (
    Amount,
    Count,
    Rate,
    Steps,
    Tokens,
    rate_of,
)
from continuum.experiment.evaluation import EVALUATIONS, Evaluate
from continuum.experiment.fields import (
    BY_FORM,
    MAPPING,
    UNIT,
    VALUE,
    Precision,
    Ref,
    Spec,
    runtime_field,
)
from continuum.experiment.optimizers import Optimizer
from continuum.experiment.runtime import RUNTIMES, Runtime
from continuum.runs.artifacts import VALIDATION_LOSS, DataPosition, TokenizedDataset
from continuum.runs.records import with_sequences
from continuum.runs.retention import Retention


class Schedule(Spec):
    """The learning-rate schedule, a pure function of the tokens seen."""

    kind: Literal["cosine", "linear", "constant", "wsd", "inverse_sqrt"] = "cosine"
    """`wsd` is warm-up, stable, decay (linear over `decay`)."""
    warmup: Amount = Amount(percent=5)
    """Length of the linear rise to the peak, in equal increments; the first step is above zero."""
    min_lr: Rate = Field("10%", examples=[3e-5, "10%"])
    """The final value of `cosine`, `linear` and `wsd`, the minimum of `inverse_sqrt`: a learning
    rate or a share of the peak."""
    decay: Amount | None = Field(None, examples=["20%"])
    """`wsd` only: the length of the final decay."""

    @model_validator(mode="after")
    def _decay_belongs_to_wsd(self) -> "Schedule":
        if (self.kind == "wsd") != (self.decay is not None):
            raise PydanticCustomError(
                "schedule_decay", "'decay' is required by kind wsd and not allowed for other kinds"
            )
        return self


SCHEDULES = [{"kind": "cosine", "warmup": "5%", "min_lr": "10%"}]


class ResumeSchedule(Spec):
    """The learning-rate schedule of a resume: it starts at the parent's last rate, without a
    jump."""

    kind: Literal["constant", "linear", "cosine"]
    """`constant` holds the parent's last rate (or `peak`); the others move to `to`."""
    to: float | None = Field(None, ge=0, allow_inf_nan=False, examples=[0, 6e-6])
    """The learning rate at the end; required by `linear` and `cosine`."""
    peak: float | None = Field(None, gt=0, allow_inf_nan=False, examples=[3e-4])
    """First rise linearly to this learning rate over `warmup`."""
    warmup: Amount | None = None
    """Length of the rise to `peak`; required with it."""

    @model_validator(mode="after")
    def _is_complete(self) -> "ResumeSchedule":
        if (self.kind == "constant") == (self.to is not None):
            raise PydanticCustomError(
                "schedule_to", "'to' is required by linear and cosine and not allowed for constant"
            )
        if (self.peak is None) != (self.warmup is None):
            raise PydanticCustomError("schedule_peak", "'peak' and 'warmup' require each other")
        return self


def _schedule_tag(value: Any) -> str:
    """A dumped `constant` of either class validates as both; only one of them has `min_lr`."""
    is_whole = "min_lr" in value if isinstance(value, dict) else isinstance(value, Schedule)
    return "whole" if is_whole else "extension"


def _describe_mixture(schema: dict[str, Any]) -> None:
    """Add the constraints of a mixture to the JSON Schema of a `data` field."""
    for alternative in schema["oneOf"]:
        if alternative["type"] == "object":
            alternative["minProperties"] = 1
            for weight in alternative["patternProperties"].values():
                weight["exclusiveMinimum"] = 0


Data = Annotated[
    Annotated[Ref[TokenizedDataset], Tag(VALUE)]
    | Annotated[dict[Ref[TokenizedDataset], float], Tag(MAPPING)],
    BY_FORM,
]
"""A dataset, or a mixture of several with shares."""


class Budget(Spec):
    """The training length, set by exactly one field."""

    max_tokens: Tokens | None = None
    """Training tokens, rounded down to whole optimizer steps. A `resume` includes its parent's."""
    max_steps: Steps | None = None
    """Optimizer steps. A `resume` includes its parent's."""
    epochs: float | None = Field(
        None, gt=0, allow_inf_nan=False, json_schema_extra={UNIT: "epochs"}, examples=[1, 0.5]
    )
    """Passes over the training data. A `resume` includes its parent's."""


BUDGET_FIELDS = tuple(Budget.__annotations__)


class Hyperparameters(Budget):
    """The fields that determine what is learned, besides model and seeds, and how the work is
    done."""

    data: Data = Field(
        json_schema_extra=_describe_mixture, examples=["tokens", {"new_tokens": 0.9, "tokens": 0.1}]
    )
    """A tokenized dataset, or a mixture `{new: 0.9, old: 0.1}` by shares of the samples."""
    sequence_length: Count = Field(json_schema_extra={UNIT: "tokens"}, examples=[512, 2048])
    """Tokens per training sequence."""
    global_batch_size: Count = Field(json_schema_extra={UNIT: "sequences"}, examples=[16, 512])
    """Sequences per optimizer step, over all devices."""
    precision: Precision = "auto"
    """As named by Lightning Fabric; `auto` is 32-true on a CPU, bf16-mixed on CUDA with compute
    capability 8.0 or higher, and 16-mixed (or 32-true, with `fsdp`) on older devices."""
    optimizer: Optimizer
    """The optimizer and its peak learning rate."""
    schedule: Annotated[
        Annotated[Schedule, Tag("whole")] | Annotated[ResumeSchedule, Tag("extension")],
        Discriminator(_schedule_tag),
    ] = Field(Schedule(), examples=SCHEDULES)
    """The learning-rate schedule."""
    max_norm: float | None = Field(1.0, gt=0, allow_inf_nan=False)
    """Maximum gradient norm for clipping; null disables clipping."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """If gradients are NaN or inf: `stop` the stage, or `skip` the step and count it."""
    evaluate: Evaluate | None = runtime_field(Evaluate(), examples=EVALUATIONS)
    """Evaluation on the validation splits; null disables it."""
    runtime: Runtime = runtime_field(Runtime(), examples=RUNTIMES)
    """How the work is done."""


class Recipe(Hyperparameters):
    """All parameters of a training besides the parent's weights."""

    @model_validator(mode="before")
    @classmethod
    def _from_an_earlier_release(cls, value: Any) -> Any:
        return with_sequences(value) if isinstance(value, dict) else value

    data: dict[Ref[TokenizedDataset], float]
    """Share of each dataset by its reference; the sum is 1."""
    data_seed: int | None = None
    """Draws the order of the samples; None until the experiment's seeds are filled in."""
    # Records of earlier releases omit null fields.
    max_norm: float | None = None
    evaluate: Evaluate | None = None

    @property
    def held_out(self) -> tuple[Ref[TokenizedDataset], ...]:
        """Datasets outside the mixture that are evaluated."""
        return self.evaluate.on if self.evaluate is not None else ()

    @property
    def all_data(self) -> tuple[Ref[TokenizedDataset], ...]:
        """The datasets of the mixture and those outside it."""
        return (*self.data, *self.held_out)

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.sequence_length

    @property
    def micro_batch_size(self) -> int:
        """Sequences per forward pass, once `auto` is resolved."""
        size = self.runtime.micro_batch_size
        assert isinstance(size, int), "with_micro_batch_size resolves `auto`"
        return size

    def with_micro_batch_size(self, size: int) -> "Recipe":
        """A copy with this `runtime.micro_batch_size`."""
        runtime = self.runtime.model_copy(update={"micro_batch_size": size})
        return self.model_copy(update={"runtime": runtime})

    def micro_batch_sizes(self, most: int | None = None) -> list[int]:
        """The possible micro-batch sizes, largest first: the stated one, or for `auto` all divisors
        of a process's share of the global batch.

        Args:
            most: Upper bound for `auto`.
        """
        stated = self.runtime.micro_batch_size
        if isinstance(stated, int):
            return [stated]
        world_size = self.runtime.world_size
        share = max(1, self.global_batch_size // world_size)
        largest = share if most is None else min(share, most)
        return [size for size in range(largest, 0, -1) if share % size == 0]

    @property
    def budget(self) -> str:
        """The field that sets the training length, as stated."""
        if self.max_tokens is not None:
            return f"max_tokens {self.max_tokens:,}"
        return f"max_steps {self.max_steps:,}" if self.max_steps else f"epochs {self.epochs:g}"

    def num_steps(self, num_blocks: int | None) -> int | None:
        """Whole optimizer steps of the budget; None for epochs of unknown data.

        Args:
            num_blocks: Training blocks in all datasets together; None if unknown.
        """
        if self.max_steps is not None:
            return self.max_steps
        if self.max_tokens is not None:
            return self.max_tokens // self.tokens_per_step
        if self.epochs is None or num_blocks is None:  # an invalid spec may have no budget
            return None
        # Exact: 0.29 epochs of 100 blocks are 29, but 0.29 * 100 as floats is below 29.
        return int(Fraction(str(self.epochs)) * num_blocks / self.global_batch_size)


@dataclass(frozen=True)
class Origin:
    """The starting point of a training stage."""

    model_config_fields: dict[str, Any]
    tied: bool = False
    """Whether the embedding and the output layer share one tensor."""
    weights: Path | None = None
    """A folder with weights (`retrain`); counters and optimizer are new."""
    state: Path | None = None
    """A training checkpoint with the full state (`resume`)."""
    tokens_before: int = 0
    """Training tokens of `weights`."""
    tokens_before_known: bool = True
    """False if there may be more."""
    parent: str | None = None
    """Digest of `weights` or `state`."""
    data_read: Mapping[str, DataPosition] | None = None
    """Position of the training of `weights` in each dataset, by the dataset's digest."""
    data_position: str = "continue"
    """`continue` there, or `restart`."""


@dataclass(frozen=True)
class Intervals:
    """A recipe's intervals in optimizer steps; None means never."""

    warmup_steps: int
    evaluate_every: int | None
    checkpoint_every: int | None
    keep_every: int | None


def intervals_of(recipe: Recipe, num_steps: int) -> Intervals:
    """The recipe's intervals for a run of `num_steps` (for a resume's warm-up: its own steps)."""

    def steps(amount: Amount | None) -> int | None:
        if amount is None:
            return None
        return max(1, amount.in_steps(num_steps, recipe.tokens_per_step))

    warmup, saving = recipe.schedule.warmup, recipe.runtime.checkpoint
    return Intervals(
        warmup_steps=warmup.in_steps(num_steps, recipe.tokens_per_step) if warmup else 0,
        evaluate_every=steps(recipe.evaluate.every) if recipe.evaluate else None,
        # What is kept must be saved, even if saving is by the clock.
        checkpoint_every=steps(saving.keep_every if saving.every is None else saving.every),
        keep_every=steps(saving.keep_every),
    )


def retention_of(
    recipe: Recipe,
    num_steps: int,
    keep_steps: Iterable[int] = (),
    best_metrics: tuple[str, ...] = (),
) -> Retention:
    """The retention of checkpoints in a run of `num_steps`.

    Args:
        keep_steps: Steps that other stages select.
        best_metrics: Metrics whose best step is recorded.
    """
    policy = recipe.runtime.checkpoint
    keep_every = intervals_of(recipe, num_steps).keep_every
    steps = frozenset(keep_steps)
    return Retention(policy.keep_last, steps, keep_every, policy.keep_best, best_metrics)


def as_mixture(data: Any) -> dict[Ref[TokenizedDataset], float]:
    """A `data` field as shares by reference, with the sum 1: 7 : 3 becomes 0.7 : 0.3.

    The largest share comes first, equal ones by name: the samples depend on the order, and the
    order of keys in YAML has no meaning.
    """
    weights = dict(data) if isinstance(data, dict) else {data: 1.0}
    if all(0 < weight < math.inf for weight in weights.values()):
        # By the decimal digits: 0.7 / (0.7 + 0.2 + 0.1) as floats is not 0.7.
        exact = {ref: Fraction(str(weight)) for ref, weight in weights.items()}
        weights = {ref: float(weight / sum(exact.values())) for ref, weight in exact.items()}
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0])))


def training_identity(fields: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The canonical identity of a training stage.

    Budgets and parts of the run are whole optimizer steps wherever these do not depend on the data,
    the sum of shares is 1, and learning rates are numbers.

    Args:
        fields: The identity of the stage or of the recipe, as stated.
        recipe: The complete recipe.
    """
    found = {name: value for name, value in fields.items() if name not in BUDGET_FIELDS}
    num_steps = recipe.num_steps(None)
    found |= {"epochs": recipe.epochs} if num_steps is None else {"max_steps": num_steps}
    if "data" in found:
        found["data"] = dict(recipe.data)
    extends = isinstance(recipe.schedule, ResumeSchedule)
    schedule = dict(found["schedule"])
    for name in {"warmup", "decay"} & schedule.keys():
        # A share of a resume is of its own steps, which depend on the parent's end.
        length = None if extends else num_steps
        schedule[name] = _part(getattr(recipe.schedule, name), length, recipe.tokens_per_step)
    if isinstance(recipe.schedule, Schedule):
        floor = schedule.pop("min_lr")
        if recipe.schedule.kind != "constant":
            schedule["min_lr"] = rate_of(floor, recipe.optimizer.lr)
    return {**found, "schedule": schedule}


def evaluation_identity(recipe: Recipe) -> dict[str, Any]:
    """The canonical form of when and on how much a stage with this recipe evaluates."""
    if recipe.evaluate is None:
        return {}
    found = recipe.evaluate.identity()
    if (tokens := found.pop("tokens", None)) is not None:
        found["sequences"] = math.ceil(tokens / recipe.sequence_length)
    if recipe.evaluate.every is not None:
        num_steps, per_step = recipe.num_steps(None), recipe.tokens_per_step
        found["every"] = _part(recipe.evaluate.every, num_steps, per_step)
    return found


def _part(amount: Amount, num_steps: int | None, tokens_per_step: int) -> dict[str, Any]:
    """A part of a run, in optimizer steps if they are known without the data."""
    if amount.percent and num_steps is None:
        return {"percent": amount.percent}
    return {"steps": amount.in_steps(num_steps or 0, tokens_per_step)}


def evaluated_datasets(data: Any, evaluate: Evaluate | None) -> tuple[str, ...]:
    """The evaluated datasets, those of the mixture first."""
    return tuple(map(str, (*as_mixture(data), *(evaluate.on if evaluate else ()))))


def validation_metrics(datasets: Collection[str]) -> list[str]:
    """The names of the losses on these datasets: the first, and one for each of several."""
    several = datasets if len(datasets) > 1 else ()
    return [VALIDATION_LOSS, *(f"{VALIDATION_LOSS}/{name}" for name in several)]
