"""kind: resume - go on with a finished stage's full state, towards a larger budget."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.amounts import Steps, Tokens
from continuum.architecture import Architecture
from continuum.artifacts import Artifact, TrainingCheckpoint
from continuum.preflight import forecast_training
from continuum.recipe import (
    BUDGET_FIELDS,
    Evaluate,
    Recipe,
    ResumeSchedule,
    Runtime,
    budget_problems,
    metric_problems,
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
        2: ("the first step of a warm-up to `peak` is above the rate that the parent ended at",),
    }
    uses_seed: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    preload: ClassVar[str] = "training"

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from budget_problems(self)
        yield from metric_problems(self.runtime, None)
        parent = stages.get(self.from_.stage)  # none when the parent has mistakes of its own
        if parent and TrainingCheckpoint in parent.output_types() and not parent.trains:
            yield Problem(
                ("from",), f"{self.from_.stage!r} was not trained; retrain from it instead"
            )

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
        return forecast_training(
            self._extend(parent.recipe),
            shape,
            inputs,
            start_step=self.from_.step or start_step,
        )

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.session import Origin, train

        parent = ctx.artifact(self.from_)
        origin = Origin(
            parent.model_config_fields,
            tied=parent.is_tied,
            state=parent.path,
            parent=parent.digest,
        )
        return train(ctx, Recipe.model_validate(ctx.recipe, strict=False), origin)

    def _extend(self, parent: Spec | None) -> Recipe:
        """The parent's recipe with this stage's horizon, schedule, evaluation and runtime."""
        assert isinstance(parent, Recipe), "only training stages produce training checkpoints"
        changes: dict[str, Any] = {name: getattr(self, name) for name in BUDGET_FIELDS}
        changes["schedule"] = self.schedule
        if self.evaluate is not None:
            changes["evaluate"] = self.evaluate
        if self.runtime is not None:
            changes["runtime"] = self.runtime
        return parent.model_copy(update=changes)
