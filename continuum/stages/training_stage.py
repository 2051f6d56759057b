"""The base of the kinds that train: their fields, the checks between them, and `run`."""

import math
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from continuum.errors import Problem
from continuum.experiment.evaluation import Evaluate
from continuum.experiment.fields import Spec
from continuum.experiment.optimizers import optimizer_problems
from continuum.experiment.recipe import (
    BUDGET_FIELDS,
    SCHEDULES,
    Budget,
    Hyperparameters,
    Origin,
    Recipe,
    Schedule,
    as_mixture,
    evaluated_datasets,
    validation_metrics,
)
from continuum.experiment.runtime import Runtime
from continuum.experiment.seeds import Seed
from continuum.experiment.stage import Stage, StageContext
from continuum.runs.artifacts import (
    VALIDATION_LOSS,
    Artifact,
    Checkpoint,
    Corpus,
    TokenizerFiles,
    TrainingCheckpoint,
)
from continuum.suggestions import closest

LEAST_LIKELY_SHARE = 1
"""In percent of the peak: a `min_lr` above the peak of at least this is a share without its %
sign."""
MIN_SHARE = 1e-4
"""The smallest share in a mixture: one sample of `training.order.PERIOD`."""

DATA_INSTEAD: Mapping[tuple[str, type[Artifact]], str] = {
    ("data", Corpus): "tokenize it first, by a stage of `kind: tokenize`",
    ("data", TokenizerFiles): "name a stage of `kind: tokenize`",
    ("data", Checkpoint): "name a stage of `kind: tokenize`; `retrain` has `from` for weights",
    ("on", Corpus): "tokenize it first, by a stage of `kind: tokenize`",
}
"""For a kind's `instead`: what is not data for training."""
TRAINING_NEWS = (
    "the validation loss is computed on sequences spread over the entire split",
    "hyperparameters.yaml is canonical and names datasets by their digests",
    "a checkpoint stores losses only in its manifest, no longer in its state",
)
"""What changed in version 2 of every kind that trains."""
NEW_SCHEDULE_NEWS = (
    "the first warm-up step has the learning rate peak / (warm-up + 1), no longer 0",
    "embeddings that are tied in the model of this name on the Hub stay tied",
)
"""The same, for kinds that start with their own schedule and optimizer."""


class TrainingStage(Budget, Stage):
    """A stage that trains from `origin` by the recipe in its record."""

    produces: ClassVar[type[Artifact]] = TrainingCheckpoint
    trains: ClassVar[bool] = True
    uses_accelerator: ClassVar[bool] = True
    preload: ClassVar[str] = "continuum.training.train"

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """List a kind's own fields before shared ones."""
        names = (*Stage.model_fields, *cls.__annotations__, *cls.model_fields)
        known = cls.model_fields
        cls.__pydantic_fields__ = {name: known[name] for name in names if name in known}

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        given = [name for name in BUDGET_FIELDS if getattr(self, name) is not None]
        if not given:
            message = "one of max_tokens, max_steps, epochs is required"
            yield Problem((), message)
        for name in given[1:]:
            yield Problem(
                (name,), f"{name} and {given[0]} both set the training length; keep one of them"
            )

    @abstractmethod
    def origin(self, ctx: StageContext) -> Origin:
        """The starting point of the training."""

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.train import train

        recipe = Recipe.model_validate(ctx.record.recipe, strict=False)
        return train(self, ctx, recipe, self.origin(ctx))


class NewTraining(Hyperparameters, TrainingStage):
    """A training with its own hyperparameters and step counter.

    A kind adds a field `seeds` that contains `data`.
    """

    schedule: Schedule = Field(Schedule(), examples=SCHEDULES)
    """The learning-rate schedule; a `retrain` warms up again."""
    seed: Seed | None = None
    """Sets all `seeds` of the stage."""

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from super().problems(stages)
        yield from _mixture_problems(self.data)
        yield from optimizer_problems(self.optimizer)
        yield from _floor_problems(self.schedule, self.optimizer.lr)
        yield from held_out_problems(self.evaluate, as_mixture(self.data))
        yield from metric_problems(self.runtime, evaluated_datasets(self.data, self.evaluate))

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        fields = {name: getattr(self, name) for name in Hyperparameters.model_fields}
        fields |= {"data": as_mixture(self.data), "data_seed": self.used_seeds(None).get("data")}
        return Recipe(**fields)


def held_out_problems(evaluate: Evaluate | None, mixture: Collection[str]) -> Iterator[Problem]:
    """Errors of `evaluate.on`: a dataset is evaluated once, and those of the mixture always are."""
    refs = evaluate.on if evaluate is not None else ()
    for number, ref in enumerate(refs):
        place = ("evaluate", "on", number)
        if ref in mixture:
            yield Problem(place, f"{str(ref)!r} is in `data` and already evaluated; remove it")
        elif ref in refs[:number]:
            yield Problem(place, f"{str(ref)!r} is listed twice; remove one")


def metric_problems(runtime: Runtime | None, datasets: Collection[str] | None) -> Iterator[Problem]:
    """The error of an unknown metric in `keep_best`; without `datasets`, theirs are not checked."""
    metric = runtime.checkpoint.keep_best if runtime else None
    known = [*validation_metrics(datasets or ()), "loss"]
    is_of_dataset = datasets is None and str(metric).startswith(f"{VALIDATION_LOSS}/")
    if metric is not None and metric not in known and not is_of_dataset:
        place = ("runtime", "checkpoint", "keep_best")
        message = f"unknown metric {metric!r}; known: {', '.join(known)}"
        yield Problem(place, message, closest(metric, known))


def _floor_problems(schedule: Schedule, peak: float) -> Iterator[Problem]:
    place, floor = ("schedule", "min_lr"), schedule.min_lr
    if schedule.kind == "constant" and floor != Schedule.model_fields["min_lr"].default:
        yield Problem(place, "'min_lr' has no effect: the constant schedule stays at lr")
    elif isinstance(floor, float) and floor > peak:
        message = f"min_lr {floor:g} must not exceed lr {peak:g}"
        share = floor if floor >= 1 else 100 * floor
        is_likely = LEAST_LIKELY_SHARE <= share <= 100
        hint = "; write a share of the peak with a % sign" if is_likely else ""
        yield Problem(place, message + hint, f"{share:g}%" if is_likely else None)


def _mixture_problems(data: Any) -> Iterator[Problem]:
    if not isinstance(data, dict):
        return
    if not data:
        yield Problem(("data",), "a mixture needs at least one dataset")
    for ref, weight in data.items():
        if not (0 < weight < math.inf):
            yield Problem(("data", str(ref)), f"weight must be positive, not {weight:g}")
        elif weight / sum(data.values()) < MIN_SHARE:
            yield Problem(("data", str(ref)), f"a share below {MIN_SHARE:g} is never sampled")
