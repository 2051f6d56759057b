"""How a model is trained: the fields `pretrain`, `resume` and `retrain` share, free of torch.

A `Recipe` is complete: a `resume` inherits what it does not say from its parent's recipe, so the
worker that trains never looks at another stage. What numbers people write (tokens, percentages,
epochs) is compiled to whole optimizer steps here, once, for the plan and for the loop alike.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from continuum.experiment.amounts import (
    COUNT_PATTERN,
    MAX_COUNT,
    Amount,
    Count,
    Duration,
    Period,
    Rate,
    Steps,
    Tokens,
    rate_of,
)
from continuum.experiment.fields import (
    BY_FORM,
    MAPPING,
    UNIT,
    VALIDATION_LOSS,
    VALUE,
    Precision,
    Ref,
    Spec,
    runtime_field,
)
from continuum.experiment.optimizers import Optimizer
from continuum.runs.artifacts import DataPosition, TokenizedDataset
from continuum.runs.records import with_sequences
from continuum.runs.retention import Retention


class Schedule(Spec):
    """The learning rate over the run, a pure function of the tokens seen."""

    kind: Literal["cosine", "linear", "constant", "wsd", "inverse_sqrt"] = "cosine"
    """`wsd` is warm-up, stable, decay (linear over `decay`)."""
    warmup: Amount = Amount(percent=5)
    """Length of the linear rise to the peak; the first step is one of equal steps above zero."""
    min_lr: Rate = Field("10%", examples=[3e-5, "10%"])
    """Where `cosine`, `linear` and `wsd` end, the floor of `inverse_sqrt`: a learning rate, or a
    share of the peak."""
    decay: Amount | None = None
    """`wsd` only: the length of the final decay."""

    @model_validator(mode="after")
    def _decay_belongs_to_wsd(self) -> "Schedule":
        if (self.kind == "wsd") != (self.decay is not None):
            raise PydanticCustomError(
                "schedule_decay", "'decay' is required by kind wsd and belongs to no other kind"
            )
        return self


class ResumeSchedule(Spec):
    """The learning rate of an extension: it starts where the parent ended, never by a jump."""

    kind: Literal["constant", "linear", "cosine"]
    """`constant` holds the parent's last rate (or `peak`); the others move to `to`."""
    to: float | None = Field(None, ge=0, allow_inf_nan=False, examples=[0, 6e-6])
    """The learning rate at the end; required by `linear` and `cosine`."""
    peak: float | None = Field(None, gt=0, allow_inf_nan=False, examples=[3e-4])
    """Rise to this learning rate first, linearly over `warmup`."""
    warmup: Amount | None = None
    """Length of the rise to `peak`; required with it."""

    @model_validator(mode="after")
    def _is_complete(self) -> "ResumeSchedule":
        if (self.kind == "constant") == (self.to is not None):
            raise PydanticCustomError(
                "schedule_to", "'to' is required by linear and cosine and unknown to constant"
            )
        if (self.peak is None) != (self.warmup is None):
            raise PydanticCustomError("schedule_peak", "'peak' and 'warmup' go together")
        return self


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


class Evaluate(Spec):
    """Loss on the validation split, during and after training."""

    every: Period | None = None
    """How often; null evaluates only at the end."""
    sequences: Sequences | None = DEFAULT_SEQUENCES
    """Sequences of each validation split, spread evenly over it: the same ones each time, whatever
    the micro-batches; fewer if it is smaller, and `all` of them if it says so."""
    tokens: Tokens | None = None
    """The same by their tokens, instead of `sequences`."""
    final: bool = True
    """Whether to evaluate after the last step."""
    at_start: bool | None = runtime_field(None)
    """Whether to evaluate before the first step too, as the first row of metrics.jsonl and never
    the best; null does so in a `retrain` alone."""
    # Not strict: below a validator of the whole mapping, a record's list is no tuple.
    on: tuple[Ref[TokenizedDataset], ...] = runtime_field((), strict=False)
    """More datasets whose validation splits are evaluated, as `val_loss/NAME`; nothing of them is
    trained on, and another content of theirs makes no training run again."""

    @model_validator(mode="before")
    @classmethod
    def _counts_one_thing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "batches" in value:
            raise PydanticCustomError(
                "evaluate_batches",
                "'batches' is gone: evaluation counts sequences, whatever micro_batch_size is; "
                "write `sequences: N` with N = batches x micro_batch_size",
            )
        if value.get("tokens") is None:
            return value
        if value.get("sequences") is not None:
            raise PydanticCustomError(
                "evaluate_amount", "'tokens' and 'sequences' both say how much; keep one of them"
            )
        return {**value, "sequences": None}

    @model_validator(mode="after")
    def _counts_something(self) -> "Evaluate":
        if self.sequences is None and self.tokens is None:
            raise PydanticCustomError(
                "evaluate_amount", "'sequences' is a number or `all`; or say 'tokens' instead"
            )
        return self

    def num_sequences(self, num_blocks: int, sequence_length: int) -> int:
        """Sequences that are evaluated of a split with `num_blocks` of them."""
        if self.sequences == "all":
            return num_blocks
        if self.tokens is not None:
            return min(num_blocks, math.ceil(self.tokens / sequence_length))
        assert isinstance(self.sequences, int)
        return min(num_blocks, self.sequences)


class CheckpointPolicy(Spec):
    """When the training state is saved, and how long it is kept."""

    every: Period | None = Amount(steps=1000)
    """How often, by optimizer steps; the last step is always saved. null: by the clock alone."""
    minutes: float | None = Field(
        None, gt=0, allow_inf_nan=False, json_schema_extra={UNIT: "minutes"}, examples=[30]
    )
    """Save also when this much time has gone by since the last."""
    keep_last: int = Field(2, ge=2, json_schema_extra={UNIT: "checkpoints"})
    """How many of the newest to keep: two, since the last may turn out damaged."""
    keep_every: Period | None = None
    """Keep those at multiples of this for good."""
    keep_best: str | None = Field(None, examples=["val_loss"])
    """Keep the one with the lowest value of this metric, such as `val_loss`."""
    format: Literal["full", "sharded"] = "full"
    """`full` is LitGPT's single file; `sharded` has each process of an fsdp run write its part."""


MicroBatchSize = Annotated[
    Annotated[int, Field(ge=1)] | Literal["auto"],
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "pattern": "^auto$"}),
]
"""A count of sequences, or `auto`."""
LARGEST_UNASKED = 4
"""Sequences of a micro-batch that `auto` takes at most where nothing says that more would help: on
a CPU, where more are no faster (pythia-14m: 4 cost 114 ms a sequence of 256 tokens, 3 cost 111),
and where the memory is not known."""


class Runtime(Spec):
    """How the work is done; none of it changes what is learned."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where there is any."""
    devices: int = Field(1, ge=1, json_schema_extra={UNIT: "processes a node"})
    """Processes on each node, one a device."""
    num_nodes: int = Field(1, ge=1, json_schema_extra={UNIT: "nodes"})
    """Nodes; more than one needs a Slurm job around the run."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """Of several processes: `ddp` holds the model in each, `fsdp` shards it (FSDP2)."""
    accumulate_unsharded: bool = False
    """Whether each device of an fsdp run adds up the gradients of the whole model and shards them
    once a step: less traffic than once a micro-batch, for memory of a whole model's gradients."""
    micro_batch_size: MicroBatchSize = Field(4, json_schema_extra={UNIT: "sequences"})
    """Sequences of one forward pass on one device; 4 is LitGPT's default. `auto` takes as many as
    the device's memory allows by the forecast and by a trial, and on a CPU no more than 4."""
    activation_checkpointing: Literal["auto", "off", "selective", "full"] = "auto"
    """What the backward pass computes again instead of keeping it: with `full` each block, with
    `selective` all of it but attention; `auto` does the least with which training fits."""
    attention: Literal["auto", "cudnn", "flash", "efficient", "math"] = "auto"
    """The kernel of scaled_dot_product_attention: `auto` takes the first that can compute it, in an
    order that depends on the GPU and on `deterministic`; any other is used alone."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: `auto` compiles on CUDA only."""
    deterministic: bool = False
    """Deterministic algorithms of torch and cuBLAS; without them a GPU promises no bytes."""
    log_every: int = Field(1, ge=1, json_schema_extra={UNIT: "optimizer steps"})
    """Optimizer steps between rows in metrics.jsonl."""
    collective_timeout: Duration = Field(600.0, examples=["10m", "1h"])
    """How long a process waits in a collective operation for the others before the run fails."""
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    """When the training state is saved, and how long it is kept."""
    loggers: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ()
    """Lightning loggers that show what is in metrics.jsonl. `wandb` and `mlflow` are extras to
    install, and write below the run folder unless WANDB_MODE or MLFLOW_TRACKING_URI is set."""


def _schedule_tag(value: Any) -> str:
    """A dumped `constant` of either kind passes for the other; only one of them has `min_lr`."""
    is_whole = "min_lr" in value if isinstance(value, dict) else isinstance(value, Schedule)
    return "whole" if is_whole else "extension"


def _describe_mixture(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema of a `data` field what is asked of a mixture."""
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
"""A dataset, or a mixture of several by their shares."""


class Budget(Spec):
    """How long a stage trains, by exactly one of its fields."""

    max_tokens: Tokens | None = None
    """Training tokens; whole optimizer steps of them are taken. A `resume` counts its parent's too.
    """
    max_steps: Steps | None = None
    """Optimizer steps. A `resume` counts its parent's too."""
    epochs: float | None = Field(
        None, gt=0, allow_inf_nan=False, json_schema_extra={UNIT: "epochs"}, examples=[1, 0.5]
    )
    """Passes over the training data. A `resume` counts its parent's too."""


BUDGET_FIELDS = tuple(Budget.__annotations__)


class Hyperparameters(Budget):
    """What decides what is learned, besides the model and the seeds; and how the work is done."""

    data: Data = Field(
        json_schema_extra=_describe_mixture, examples=["tokens", {"new_tokens": 0.9, "tokens": 0.1}]
    )
    """A tokenized dataset, or a mixture `{new: 0.9, old: 0.1}` by shares of the samples."""
    sequence_length: Count = Field(json_schema_extra={UNIT: "tokens"}, examples=[512, 2048])
    """Tokens in a training sequence."""
    global_batch_size: Count = Field(json_schema_extra={UNIT: "sequences"}, examples=[16, 512])
    """Sequences in an optimizer step, over all devices."""
    precision: Precision = "auto"
    """As Lightning Fabric names it; `auto` is 32-true on a CPU, bf16-mixed on CUDA from compute
    capability 8.0 on, and 16-mixed (or 32-true, with `fsdp`) on older devices."""
    optimizer: Optimizer
    """The optimizer and its peak learning rate."""
    schedule: Annotated[
        Annotated[Schedule, Tag("whole")] | Annotated[ResumeSchedule, Tag("extension")],
        Discriminator(_schedule_tag),
    ] = Schedule()
    """The learning rate over the stage."""
    max_norm: float | None = Field(1.0, gt=0, allow_inf_nan=False)
    """Gradients are clipped to this norm; null does not clip."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """When gradients are infinite or NaN: `stop` the stage, or `skip` the step and count it."""
    evaluate: Evaluate | None = runtime_field(Evaluate())
    """Loss on the validation splits; null does not evaluate."""
    runtime: Runtime = runtime_field(Runtime())
    """How the work is done."""


class Recipe(Hyperparameters):
    """Everything training needs to know besides the parent's bytes."""

    @model_validator(mode="before")
    @classmethod
    def _from_an_earlier_release(cls, value: Any) -> Any:
        return with_sequences(value) if isinstance(value, dict) else value

    data: dict[Ref[TokenizedDataset], float]
    """Share of each dataset by its reference; together they are 1."""
    data_seed: int | None = None
    """Draws the order of the samples; None while the experiment's seeds are not filled in."""
    # Records of earlier releases leave out what is null.
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
        """Sequences of one forward pass; only where `auto` is decided."""
        size = self.runtime.micro_batch_size
        assert isinstance(size, int), "with_micro_batch_size decides it"
        return size

    def with_micro_batch_size(self, size: int) -> "Recipe":
        """The same recipe with `runtime.micro_batch_size` decided."""
        runtime = self.runtime.model_copy(update={"micro_batch_size": size})
        return self.model_copy(update={"runtime": runtime})

    def micro_batch_sizes(self, most: int | None = None) -> list[int]:
        """The sizes of `micro_batch_size`, largest first: the one written, or for `auto` each that
        divides a process's share of a global batch.

        Args:
            most: No larger ones than this for `auto`.
        """
        written = self.runtime.micro_batch_size
        if isinstance(written, int):
            return [written]
        world_size = self.runtime.devices * self.runtime.num_nodes
        share = max(1, self.global_batch_size // world_size)
        largest = share if most is None else min(share, most)
        return [size for size in range(largest, 0, -1) if share % size == 0]

    @property
    def budget(self) -> str:
        """The field that sets the horizon, as written."""
        if self.max_tokens is not None:
            return f"max_tokens {self.max_tokens:,}"
        return f"max_steps {self.max_steps:,}" if self.max_steps else f"epochs {self.epochs:g}"

    def num_steps(self, num_blocks: int | None) -> int | None:
        """Whole optimizer steps of the budget; None while epochs wait for the data.

        Args:
            num_blocks: Training blocks in all datasets together, None while unknown.
        """
        if self.max_steps is not None:
            return self.max_steps
        if self.max_tokens is not None:
            return self.max_tokens // self.tokens_per_step
        if self.epochs is None or num_blocks is None:  # a spec in error may state no budget
            return None
        # 0.29 epochs of 100 blocks are 29, which 0.29 * 100 as floats falls just short of.
        return int(Fraction(str(self.epochs)) * num_blocks / self.global_batch_size)


@dataclass(frozen=True)
class Origin:
    """What a training stage begins from."""

    model_config_fields: dict[str, Any]
    tied: bool = False
    """Whether the embedding and the output layer are one tensor."""
    weights: Path | None = None
    """A folder whose weights are taken (`retrain`); counters and optimizer start anew."""
    state: Path | None = None
    """A training checkpoint whose full state goes on (`resume`)."""
    tokens_before: int = 0
    """Training tokens behind `weights`."""
    tokens_before_known: bool = True
    """False if there may be more of them."""
    parent: str | None = None
    """Digest of what `weights` or `state` is."""
    data_read: Mapping[str, DataPosition] | None = None
    """Where the training of `weights` stands in each dataset, by its digest."""
    data_position: str = "continue"
    """Whether to `continue` there, or to `restart`."""


@dataclass(frozen=True)
class Intervals:
    """A recipe's periods, in optimizer steps; None is never."""

    warmup_steps: int
    evaluate_every: int | None
    checkpoint_every: int | None
    keep_every: int | None


def intervals_of(recipe: Recipe, num_steps: int) -> Intervals:
    """The recipe's periods for a run of `num_steps` (a resume's warm-up: of its own steps)."""

    def steps(amount: Amount | None) -> int | None:
        if amount is None:
            return None
        return max(1, amount.in_steps(num_steps, recipe.tokens_per_step))

    warmup, saving = recipe.schedule.warmup, recipe.runtime.checkpoint
    return Intervals(
        warmup_steps=warmup.in_steps(num_steps, recipe.tokens_per_step) if warmup else 0,
        evaluate_every=steps(recipe.evaluate.every) if recipe.evaluate else None,
        # What is kept must be saved, by the clock or not.
        checkpoint_every=steps(saving.keep_every if saving.every is None else saving.every),
        keep_every=steps(saving.keep_every),
    )


def retention_of(
    recipe: Recipe,
    num_steps: int,
    keep_steps: Iterable[int] = (),
    best_metrics: tuple[str, ...] = (),
) -> Retention:
    """Which checkpoints of a run of `num_steps` stay.

    Args:
        keep_steps: Those that other stages select.
        best_metrics: Metrics whose best step training records.
    """
    policy = recipe.runtime.checkpoint
    keep_every = intervals_of(recipe, num_steps).keep_every
    steps = frozenset(keep_steps)
    return Retention(policy.keep_last, steps, keep_every, policy.keep_best, best_metrics)


def as_mixture(data: Any) -> dict[Ref[TokenizedDataset], float]:
    """A `data` field as shares by reference, which are 1 together: 7 : 3 is 0.7 : 0.3.

    The largest share comes first, and equal ones by name: the samples hang on the order, and the
    order of keys in YAML means nothing.
    """
    weights = dict(data) if isinstance(data, dict) else {data: 1.0}
    if all(0 < weight < math.inf for weight in weights.values()):
        # By the digits as written: 0.7 / (0.7 + 0.2 + 0.1) as floats is not 0.7.
        exact = {ref: Fraction(str(weight)) for ref, weight in weights.items()}
        weights = {ref: float(weight / sum(exact.values())) for ref, weight in exact.items()}
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0])))


def training_identity(fields: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """What identifies a training stage, in the one form of all the ways to say the same.

    Budgets and parts of the run are whole optimizer steps wherever that hangs on no data, shares
    are 1 together, and learning rates are numbers.

    Args:
        fields: The identity of the stage, or of the recipe itself, as it is spelled.
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
        # A share of an extension is one of its own steps, which hang on where the parent ended.
        length = None if extends else num_steps
        schedule[name] = _part(getattr(recipe.schedule, name), length, recipe.tokens_per_step)
    if isinstance(recipe.schedule, Schedule):
        floor = schedule.pop("min_lr")
        if recipe.schedule.kind != "constant":
            schedule["min_lr"] = rate_of(floor, recipe.optimizer.lr)
    return {**found, "schedule": schedule}


def evaluation_identity(recipe: Recipe) -> dict[str, Any]:
    """When and on how much a stage that trains by this recipe evaluates, in one form."""
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
    """A part of a run, in optimizer steps where they are known without the data."""
    if amount.percent and num_steps is None:
        return {"percent": amount.percent}
    return {"steps": amount.in_steps(num_steps or 0, tokens_per_step)}


def evaluated_datasets(data: Any, evaluate: Evaluate | None) -> tuple[str, ...]:
    """The datasets that are evaluated, those of the mixture first."""
    return tuple(map(str, (*as_mixture(data), *(evaluate.on if evaluate else ()))))


def validation_metrics(datasets: Collection[str]) -> list[str]:
    """The names of the losses on these datasets: the first one's, and of several each one's."""
    several = datasets if len(datasets) > 1 else ()
    return [VALIDATION_LOSS, *(f"{VALIDATION_LOSS}/{name}" for name in several)]
