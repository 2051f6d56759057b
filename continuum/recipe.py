"""How a model is trained: the fields `pretrain`, `resume` and `retrain` share, free of torch.

A `Recipe` is complete: a `resume` inherits what it does not say from its parent's recipe, so the
worker that trains never looks at another stage. What numbers people write (tokens, percentages,
epochs) is compiled to whole optimizer steps here, once, for the plan and for the loop alike.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from continuum.amounts import (
    COUNT_PATTERN,
    MAX_COUNT,
    Amount,
    Count,
    Duration,
    Period,
    Rate,
    Tokens,
    rate_of,
)
from continuum.artifacts import TokenizedDataset
from continuum.fields import UNIT, VALIDATION_LOSS, Precision, Ref, Spec, runtime_field
from continuum.optimizers import Optimizer, optimizer_problems
from continuum.records import with_sequences
from continuum.spelling import closest
from continuum.stage import Problem

LEAST_LIKELY_SHARE = 1
"""In percent of the peak: a `min_lr` above it that comes to no less is a share without its sign."""
MIN_SHARE = 1e-4
"""The smallest share a mixture can hold: one sample of `training.order.PERIOD`."""

TRAINING_NEWS = (
    "the validation loss is that of sequences spread over the whole split",
    "hyperparameters.yaml names datasets by their digests and is in one form for all spellings",
    "losses are in a checkpoint's manifest alone, no longer among the bytes of its state",
)
"""What version 2 of every kind that trains makes otherwise."""
NEW_SCHEDULE_NEWS = (
    "the first step of a warm-up learns: its rate is peak / (warm-up + 1), no longer 0",
    "embeddings that are tied in the model of this name on the Hub stay one tensor",
)
"""The same of the kinds that begin with a schedule and an optimizer of their own."""


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
BATCHES = "evaluate_batches"
"""The kind of the mistake of counting micro-batches, as an earlier release did."""
Sequences = Annotated[
    Count | Literal["all"],
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
                BATCHES,
                "'batches' is gone: evaluation counts sequences, whatever micro_batch_size is",
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
    micro_batch_size: int = Field(4, ge=1, json_schema_extra={UNIT: "sequences"})
    """Sequences of one forward pass on one device, LitGPT's default."""
    activation_checkpointing: Literal["auto", "off", "selective", "full"] = "auto"
    """What the backward pass computes again instead of keeping it: with `full` each block, with
    `selective` all of it but attention; `auto` does the least with which training fits."""
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


class Recipe(Spec):
    """Everything training needs to know besides the parent's bytes."""

    @model_validator(mode="before")
    @classmethod
    def _from_an_earlier_release(cls, value: Any) -> Any:
        return with_sequences(value) if isinstance(value, dict) else value

    data: dict[Ref[TokenizedDataset], float]
    """Weight of each dataset by its reference; one dataset has weight 1."""
    data_seed: int | None = None
    """Draws the order of the samples; None while the experiment's seeds are not filled in."""
    sequence_length: int
    global_batch_size: int
    max_tokens: int | None = None
    max_steps: int | None = None
    epochs: float | None = None
    precision: Precision = "auto"
    optimizer: Optimizer
    schedule: Annotated[
        Annotated[Schedule, Tag("whole")] | Annotated[ResumeSchedule, Tag("extension")],
        Discriminator(_schedule_tag),
    ]
    max_norm: float | None = None
    on_nonfinite: Literal["stop", "skip"] = "stop"
    evaluate: Evaluate | None = None
    runtime: Runtime = runtime_field(Runtime())

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
        assert self.epochs is not None
        if num_blocks is None:
            return None
        # 0.29 epochs of 100 blocks are 29, which 0.29 * 100 as floats falls just short of.
        return int(Fraction(str(self.epochs)) * num_blocks / self.global_batch_size)


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


BUDGET_FIELDS = ("max_tokens", "max_steps", "epochs")


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


def describe_mixture(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema of a `data` field what `training_problems` asks of a mixture."""
    for alternative in schema["anyOf"]:
        if alternative["type"] == "object":
            alternative["minProperties"] = 1
            for weight in alternative["patternProperties"].values():
                weight["exclusiveMinimum"] = 0
    schema["examples"] = ["tokens", {"new_tokens": 0.9, "tokens": 0.1}]


def budget_problems(stage: Any) -> Iterator[Problem]:
    """Exactly one of `max_tokens`, `max_steps`, `epochs` sets the horizon."""
    given = [name for name in BUDGET_FIELDS if getattr(stage, name) is not None]
    if not given:
        yield Problem((), "say how long to train: one of max_tokens, max_steps, epochs is required")
    for name in given[1:]:
        yield Problem((name,), f"{name} and {given[0]} both set the horizon; keep one of them")


def training_problems(stage: Any) -> Iterator[Problem]:
    """What is wrong between the fields of a training stage."""
    yield from budget_problems(stage)
    yield from _mixture_problems(stage.data)
    yield from optimizer_problems(stage.optimizer)
    yield from _floor_problems(stage.schedule, stage.optimizer.lr)
    yield from held_out_problems(stage.evaluate, as_mixture(stage.data))
    yield from metric_problems(stage.runtime, evaluated_datasets(stage.data, stage.evaluate))


def evaluated_datasets(data: Any, evaluate: Evaluate | None) -> tuple[str, ...]:
    """The datasets that are evaluated, those of the mixture first."""
    return tuple(map(str, (*as_mixture(data), *(evaluate.on if evaluate else ()))))


def validation_metrics(datasets: Collection[str]) -> list[str]:
    """The names of the losses on these datasets: the first one's, and of several each one's."""
    several = datasets if len(datasets) > 1 else ()
    return [VALIDATION_LOSS, *(f"{VALIDATION_LOSS}/{name}" for name in several)]


def held_out_problems(evaluate: Evaluate | None, mixture: Collection[str]) -> Iterator[Problem]:
    """Each dataset is evaluated once: those of the mixture are anyway."""
    refs = evaluate.on if evaluate is not None else ()
    for number, ref in enumerate(refs):
        place = ("evaluate", "on", number)
        if ref in mixture:
            yield Problem(
                place, f"{str(ref)!r} is in the data, which is evaluated anyway; remove it"
            )
        elif ref in refs[:number]:
            yield Problem(place, f"{str(ref)!r} is named twice; remove one")


def metric_problems(runtime: Runtime | None, datasets: Collection[str] | None) -> Iterator[Problem]:
    """A checkpoint is kept by a metric that there is; without `datasets`, theirs are not known."""
    metric = runtime.checkpoint.keep_best if runtime else None
    known = [*validation_metrics(datasets or ()), "loss"]
    is_of_dataset = datasets is None and str(metric).startswith(f"{VALIDATION_LOSS}/")
    if metric is not None and metric not in known and not is_of_dataset:
        place = ("runtime", "checkpoint", "keep_best")
        message = f"there is no metric {metric!r}; known: {', '.join(known)}"
        yield Problem(place, message, closest(metric, known))


def _floor_problems(schedule: Schedule, peak: float) -> Iterator[Problem]:
    place, floor = ("schedule", "min_lr"), schedule.min_lr
    if schedule.kind == "constant" and floor != Schedule.model_fields["min_lr"].default:
        yield Problem(place, "'min_lr' belongs to no schedule of kind constant, which stays at lr")
    elif isinstance(floor, float) and floor > peak:
        message = f"min_lr {floor:g} is above lr {peak:g}: the rate would rise where it should fall"
        share = floor if floor >= 1 else 100 * floor
        is_likely = LEAST_LIKELY_SHARE <= share <= 100
        hint = "; a share of the peak is written with a % sign" if is_likely else ""
        yield Problem(place, message + hint, f"{share:g}%" if is_likely else None)


def _mixture_problems(data: Any) -> Iterator[Problem]:
    if not isinstance(data, dict):
        return
    if not data:
        yield Problem(("data",), "a mixture needs at least one dataset")
    for ref, weight in data.items():
        if not (0 < weight < math.inf):
            yield Problem(("data", str(ref)), f"weight {weight:g} is not positive")
        elif weight / sum(data.values()) < MIN_SHARE:
            yield Problem(("data", str(ref)), f"a share below {MIN_SHARE:g} would never be drawn")
