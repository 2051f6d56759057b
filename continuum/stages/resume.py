"""kind: resume - continue a finished stage with its full state and a larger budget."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.errors import Problem
from continuum.experiment.evaluation import EVALUATIONS, Evaluate
from continuum.experiment.fields import Ref, Spec, runtime_field
from continuum.experiment.forecast import Forecast
from continuum.experiment.recipe import (
    BUDGET_FIELDS,
    Origin,
    Recipe,
    ResumeSchedule,
    evaluated_datasets,
)
from continuum.experiment.runtime import RUNTIMES, Runtime
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.formatting import plural
from continuum.preflight import forecast_training
from continuum.preflight.reading import extend_reading, read_by
from continuum.runs.artifacts import (
    Artifact,
    ModelWeights,
    TokenizedDataset,
    TrainingCheckpoint,
)
from continuum.stages.training_stage import (
    TRAINING_NEWS,
    TrainingStage,
    held_out_problems,
    metric_problems,
)

STATED_INSTEAD = {
    "global_batch_size": ("runtime", "micro_batch_size"),
    "data": ("evaluate",),
    "optimizer": ("runtime", "strategy"),
}
"""Where a resume overrides what conflicts with an inherited field."""


class Resume(TrainingStage):
    """Continue a parent with another training length and learning rate; all else is inherited.

    The budget is a total, which includes the parent's tokens, steps or epochs.
    """

    kind: Literal["resume"] = "resume"
    from_: Ref[TrainingCheckpoint] = Field(alias="from", examples=["pretrain", "pretrain@best"])
    """The parent's training checkpoint, `pretrain`, `pretrain@step-500` or `pretrain@best`."""
    schedule: ResumeSchedule = Field(examples=[{"kind": "linear", "to": 0}])
    """The learning rate after the parent's end; required, so that it never jumps silently."""
    evaluate: Evaluate | None = runtime_field(None, examples=EVALUATIONS)
    """Evaluation on the validation split; null inherits the parent's."""
    runtime: Runtime | None = runtime_field(None, examples=RUNTIMES)
    """How the work is done; null inherits the parent's."""

    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "the samples continue in the order of the parent, which depends on the data's SHA-256",
            "the first warm-up step to `peak` is above the last learning rate of the parent",
            *TRAINING_NEWS,
        )
    }
    aliases: ClassVar[tuple[str, ...]] = (
        "resume_training", "resume_from_checkpoint", "extend", "longer", "continue_training",
    )  # fmt: skip
    refused: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            (
                "model", "data", "sequence_length", "global_batch_size", "precision", "optimizer",
                "max_norm", "on_nonfinite", "data_position", "tokenizer",
            ),
            "a resume inherits it from its parent; use `kind: retrain` to change it",
        ),
        **dict.fromkeys(
            ("seed", "seeds"),
            "a resume continues its parent's order of the samples, so it inherits the seed",
        ),
    }  # fmt: skip
    instead: ClassVar[Mapping[tuple[str, type[Artifact]], str]] = {
        ("from", ModelWeights): "use `kind: retrain` to continue training from weights",
        ("from", TokenizedDataset): "name the stage that trained; its data is inherited",
    }

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from super().problems(stages)
        yield from metric_problems(self.runtime, None)
        parent = stages.get(self.from_.stage)  # None if the parent has errors
        if parent and TrainingCheckpoint in parent.output_types() and not parent.trains:
            yield Problem(
                ("from",),
                f"{self.from_.stage!r} is not a training stage; use `kind: retrain` instead",
            )

    def used_seeds(self, recipe: Spec | None) -> dict[str, int]:
        seed = recipe.data_seed if isinstance(recipe, Recipe) else None
        return {} if seed is None else {"data": seed}

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        return self._extend(parents[self.from_.stage])

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        parent = inputs[self.from_]
        start_step = parent.forecast.num_steps
        if self.from_.metric is not None:
            start_step = None  # The best step is known once the parent is trained.
        if isinstance(parent.artifact, TrainingCheckpoint):
            start_step = parent.artifact.step
        recipe, start_step = self._extend(parent.recipe), self.from_.step or start_step
        reading = extend_reading(recipe, inputs, read_by(parent, self.from_), start_step)
        forecast = forecast_training(recipe, parent.architecture, inputs, start_step=start_step)
        problems = [*forecast.problems, *self._horizon_problems(parent.recipe, forecast.num_steps)]
        problems += held_out_problems(self.evaluate, recipe.data)
        if self.runtime is not None:
            problems += metric_problems(
                recipe.runtime, evaluated_datasets(recipe.data, recipe.evaluate)
            )
        return replace(
            forecast,
            reading=reading,
            problems=tuple(self._own(problems, parent.forecast)),
            warnings=tuple(self._own(forecast.warnings, parent.forecast)),
        )

    def _horizon_problems(self, parent: Spec | None, num_steps: int | None) -> Iterator[Problem]:
        """The error of epochs that do not exceed the parent's, while the data is unknown."""
        before = parent.epochs if isinstance(parent, Recipe) else None
        is_of_end = self.from_.step is None and self.from_.metric is None
        if num_steps is None and before and self.epochs and is_of_end and self.epochs <= before:
            message = f"the parent already trained {plural(before, 'epoch')}; set a larger total"
            yield Problem(("epochs",), message)

    def _own(self, problems: Iterable[Problem], parent: Forecast) -> Iterator[Problem]:
        """Problems that the parent does not have, at the fields that this stage states."""
        known = {str(problem) for problem in (*parent.problems, *parent.warnings)}
        for problem in problems:
            field = str(problem.path[0]) if problem.path else ""
            if field in self.model_fields_set:
                yield problem
            elif str(problem) not in known:
                yield replace(problem, path=STATED_INSTEAD.get(field, problem.path))

    def origin(self, ctx: StageContext) -> Origin:
        parent = ctx.artifact(self.from_)
        return Origin(
            parent.model_config_fields,
            tied=parent.is_tied,
            state=parent.path,
            parent=parent.digest,
        )

    def _extend(self, parent: Spec | None) -> Recipe:
        """The parent's recipe with this stage's horizon, schedule, evaluation and runtime."""
        assert isinstance(parent, Recipe), "only training stages produce training checkpoints"
        changes: dict[str, Any] = {name: getattr(self, name) for name in BUDGET_FIELDS}
        changes["schedule"] = self.schedule
        if self.evaluate is not None:
            changes["evaluate"] = self.evaluate
        elif parent.evaluate is not None:  # the parent's end is already evaluated
            changes["evaluate"] = parent.evaluate.model_copy(update={"at_start": None})
        if self.runtime is not None:
            changes["runtime"] = self.runtime
        return parent.model_copy(update=changes)
