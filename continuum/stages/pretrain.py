"""kind: pretrain - train a freshly initialised LitGPT model on a tokenized dataset."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.experiment.architecture import (
    Architecture,
    MisfitError,
    architecture,
    model_identity,
)
from continuum.experiment.model_fields import LitGPTModel, ModelFields
from continuum.experiment.recipe import Origin
from continuum.experiment.seeds import TrainingSeeds
from continuum.experiment.stage import (
    Forecast,
    PlanInput,
    Problem,
    Spec,
    Stage,
    StageContext,
    canonicalize,
)
from continuum.preflight import forecast_training
from continuum.preflight.reading import begin_reading
from continuum.stages.training_stage import NEW_SCHEDULE_NEWS, TRAINING_NEWS, NewTraining


class Pretrain(NewTraining):
    kind: Literal["pretrain"] = "pretrain"
    model: LitGPTModel = Field(examples=["pythia-160m", {"name": "pythia-14m", "n_layer": 4}])
    """A LitGPT config name, or `{name: pythia-14m, n_layer: 4}` with fields of it replaced;
    `tied` beside them says whether the embedding and the output layer are one tensor, which is as
    in the model of this name on the Hub unless stated."""
    seeds: TrainingSeeds = TrainingSeeds()
    """The seeds one by one; those of the experiment where neither says otherwise."""

    aliases: ClassVar[tuple[str, ...]] = ("train", "training")
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "the order of the samples is keyed by the data's SHA-256, not by its place in the "
            "mixture; the weights are drawn by seeds.init, the order by seeds.data",
            *NEW_SCHEDULE_NEWS,
            *TRAINING_NEWS,
        )
    }

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from super().problems(stages)
        yield from _model_problems(self.model)

    def identity_with(self, recipe: Spec | None) -> dict[str, Any]:
        return {**super().identity_with(recipe), "model": canonicalize(self._model_identity())}

    def architecture(self) -> Architecture:
        """The model's shape.

        Raises:
            ValueError: LitGPT has no such model or field, or the values do not fit together.
        """
        model = self._model
        return architecture(model.name, model.replaced, tied=model.tied)

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        recipe = self.recipe({})
        forecast = forecast_training(recipe, self.architecture(), inputs)
        return replace(forecast, reading=begin_reading(recipe, inputs))

    def origin(self, ctx: StageContext) -> Origin:
        shape = self.architecture()
        return Origin(shape.fields, tied=shape.tied)

    @property
    def _model(self) -> ModelFields:
        model = self.model
        return ModelFields.model_validate({"name": model}) if isinstance(model, str) else model

    def _model_identity(self) -> dict[str, Any]:
        model = self._model
        found = model_identity(model.name, model.replaced)
        # As it would be unless stated.
        is_own = model.tied is None or model.tied == architecture(model.name).tied
        return found if is_own else {**found, "tied": model.tied}


def _model_problems(model: str | ModelFields) -> Iterator[Problem]:
    if isinstance(model, str):
        return
    try:
        architecture(model.name, model.replaced)
    except MisfitError as error:
        said = [("model", field) for field in error.fields if field in model.replaced]
        yield Problem(said[0] if said else ("model",), str(error))
