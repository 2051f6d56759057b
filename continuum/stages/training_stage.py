"""The base of the kinds that train: their fields, what is wrong between these, and their run."""

import math
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from continuum.experiment.fields import VALIDATION_LOSS, Spec
from continuum.experiment.optimizers import optimizer_problems
from continuum.experiment.recipe import (
    BUDGET_FIELDS,
    Budget,
    Evaluate,
    Hyperparameters,
    Origin,
    Recipe,
    Runtime,
    Schedule,
    as_mixture,
    evaluated_datasets,
    training_identity,
    validation_metrics,
)
from continuum.experiment.stage import Stage, StageContext
from continuum.problems import Problem
from continuum.runs.artifacts import Artifact, TrainingCheckpoint
from continuum.suggestions import closest

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


class TrainingStage(Budget, Stage):
    """A stage that trains, from `origin` and by the recipe in its record."""

    produces: ClassVar[type[Artifact]] = TrainingCheckpoint
    trains: ClassVar[bool] = True
    preload: ClassVar[str] = "continuum.training.train"

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """List a kind's own fields before those that it shares with others."""
        names = (*Stage.model_fields, *cls.__annotations__, *cls.model_fields)
        known = cls.model_fields
        cls.__pydantic_fields__ = {name: known[name] for name in names if name in known}

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        given = [name for name in BUDGET_FIELDS if getattr(self, name) is not None]
        if not given:
            message = "say how long to train: one of max_tokens, max_steps, epochs is required"
            yield Problem((), message)
        for name in given[1:]:
            yield Problem((name,), f"{name} and {given[0]} both set the horizon; keep one of them")

    def identity_with(self, recipe: Spec | None) -> dict[str, Any]:
        assert isinstance(recipe, Recipe), "it trains"
        return training_identity(self.identity(), recipe)

    @abstractmethod
    def origin(self, ctx: StageContext) -> Origin:
        """What the training begins from."""

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.train import train

        recipe = Recipe.model_validate(ctx.record.recipe, strict=False)
        return train(self, ctx, recipe, self.origin(ctx))


class NewTraining(Hyperparameters, TrainingStage):
    """A training that counts its own steps, by hyperparameters of its own.

    A kind adds a field `seeds` with a `data` among them.
    """

    schedule: Schedule = Schedule()
    """The learning rate over the stage; a `retrain` warms up again."""
    seed: int | None = Field(None, ge=0, lt=2**32)
    """Sets all `seeds` of this stage."""

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
