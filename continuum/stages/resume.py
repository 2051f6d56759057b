"""kind: resume - go on with a finished stage's full state, towards a larger budget."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.amounts import Steps, Tokens
from continuum.architecture import Architecture
from continuum.artifacts import Artifact, TrainingCheckpoint
from continuum.preflight import forecast_training
from continuum.preflight.reading import extend_reading, read_by
from continuum.recipe import (
    BUDGET_FIELDS,
    TRAINING_NEWS,
    Evaluate,
    Recipe,
    ResumeSchedule,
    Runtime,
    as_mixture,
    budget_problems,
    held_out_problems,
    metric_problems,
    training_identity,
)
from continuum.stage import (
    UNIT,
    Forecast,
    PlanInput,
    Problem,
    Ref,
    Spec,
    Stage,
    StageContext,
    runtime_field,
)


class Resume(Stage):
    """Everything but the horizon and the learning rate is the parent's: other fields are refused.

    The budget is a total: it counts the parent's tokens, steps or epochs too.
    """

    kind: Literal["resume"] = "resume"
    from_: Ref[TrainingCheckpoint] = Field(alias="from", examples=["pretrain", "pretrain@best"])
    """The parent's training checkpoint, `pretrain`, `pretrain@step-500` or `pretrain@best`."""
    max_tokens: Tokens | None = None
    """Total training tokens, the parent's included."""
    max_steps: Steps | None = None
    """Total optimizer steps, the parent's included."""
    epochs: float | None = Field(
        None, gt=0, allow_inf_nan=False, json_schema_extra={UNIT: "epochs"}, examples=[2]
    )
    """Total passes over the training data, the parent's included."""
    schedule: ResumeSchedule
    """The learning rate from where the parent ended; required, so that it never jumps unsaid."""
    evaluate: Evaluate | None = runtime_field(None)
    """Loss on the validation split; null evaluates as the parent does."""
    runtime: Runtime | None = runtime_field(None)
    """How the work is done; null does it as the parent does."""

    produces: ClassVar[type[Artifact]] = TrainingCheckpoint
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "the samples go on in the order of the parent, which is keyed by the data's SHA-256",
            "the first step of a warm-up to `peak` is above the rate that the parent ended at",
            *TRAINING_NEWS,
        )
    }
    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("seed", "seeds"),
        "a resume goes on in its parent's order of the samples, so its seed is the parent's",
    )
    trains: ClassVar[bool] = True
    preload: ClassVar[str] = "training"

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from budget_problems(self)
        yield from metric_problems(self.runtime, None)
        if self.evaluate is not None and self.evaluate.on:  # a chain is only followed for it
            yield from held_out_problems(self.evaluate, _mixture_of(self, stages))
        parent = stages.get(self.from_.stage)  # none when the parent has mistakes of its own
        if parent and TrainingCheckpoint in parent.output_types() and not parent.trains:
            yield Problem(
                ("from",), f"{self.from_.stage!r} was not trained; retrain from it instead"
            )

    def used_seeds(self, recipe: Spec | None) -> dict[str, int]:
        seed = recipe.data_seed if isinstance(recipe, Recipe) else None
        return {} if seed is None else {"data": seed}

    def identity_with(self, recipe: Spec | None) -> dict[str, Any]:
        assert isinstance(recipe, Recipe), "it trains"
        return training_identity(self.identity(), recipe)

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        return self._extend(parents[self.from_.stage])

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        parent = inputs[self.from_]
        shape, start_step = parent.forecast.architecture, parent.forecast.num_steps
        if self.from_.metric is not None:
            start_step = None  # Which step is best shows when the parent has been trained.
        if isinstance(parent.artifact, TrainingCheckpoint):
            shape = Architecture(parent.artifact.model_config_fields, parent.artifact.is_tied)
            start_step = parent.artifact.step
        recipe, start_step = self._extend(parent.recipe), self.from_.step or start_step
        reading = extend_reading(recipe, inputs, read_by(parent, self.from_), start_step)
        forecast = forecast_training(recipe, shape, inputs, start_step=start_step)
        return replace(forecast, reading=reading)

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.session import Origin, train

        parent = ctx.artifact(self.from_)
        origin = Origin(
            parent.model_config_fields,
            tied=parent.is_tied,
            state=parent.path,
            parent=parent.digest,
        )
        return train(self, ctx, Recipe.model_validate(ctx.recipe, strict=False), origin)

    def _extend(self, parent: Spec | None) -> Recipe:
        """The parent's recipe with this stage's horizon, schedule, evaluation and runtime."""
        assert isinstance(parent, Recipe), "only training stages produce training checkpoints"
        changes: dict[str, Any] = {name: getattr(self, name) for name in BUDGET_FIELDS}
        changes["schedule"] = self.schedule
        if self.evaluate is not None:
            changes["evaluate"] = self.evaluate
        elif parent.evaluate is not None:  # which the parent's end was evaluated by
            changes["evaluate"] = parent.evaluate.model_copy(update={"at_start": None})
        if self.runtime is not None:
            changes["runtime"] = self.runtime
        return parent.model_copy(update=changes)


def _mixture_of(stage: Stage, stages: Mapping[str, Stage]) -> Collection[str]:
    """The data that a chain of extensions began with; empty where it cannot be followed."""
    known = set()
    while isinstance(stage, Resume) and stage.from_.stage not in known:
        known.add(stage.from_.stage)
        parent = stages.get(stage.from_.stage)
        if parent is None:
            return ()
        stage = parent
    data = getattr(stage, "data", None)
    return as_mixture(data) if data is not None else ()
