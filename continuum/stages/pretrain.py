"""kind: pretrain - train a newly initialized LitGPT model on a tokenized dataset."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.errors import Problem
from continuum.experiment.architecture import (
    Architecture,
    IncompatibleFieldsError,
    architecture,
    model_identity,
)
from continuum.experiment.fields import canonicalize
from continuum.experiment.forecast import Forecast
from continuum.experiment.model_fields import LitGPTModel, ModelFields
from continuum.experiment.recipe import Origin
from continuum.experiment.seeds import TrainingSeeds
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.preflight import forecast_training
from continuum.preflight.reading import begin_reading
from continuum.runs.artifacts import Artifact
from continuum.stages.training_stage import (
    DATA_INSTEAD,
    NEW_SCHEDULE_NEWS,
    TRAINING_NEWS,
    NewTraining,
)


class Pretrain(NewTraining):
    kind: Literal["pretrain"] = "pretrain"
    model: LitGPTModel = Field(examples=["pythia-160m", {"name": "pythia-14m", "n_layer": 4}])
    """A LitGPT config name, or `{name: pythia-14m, n_layer: 4}` to override its fields. `tied`
    beside them sets whether the embedding and the output layer share one tensor; default: as in the
    model of this name on the Hub."""
    seeds: TrainingSeeds = Field(TrainingSeeds(), examples=[{"init": 1, "data": 2}])
    """Individual seeds; default: `seed`, then the seeds of the experiment."""

    aliases: ClassVar[tuple[str, ...]] = (
        "train", "training", "pretraining", "scratch", "from_scratch", "trainer",
    )  # fmt: skip
    refused: ClassVar[Mapping[str, str]] = {
        "from": "a pretrain starts with new weights; use `kind: retrain` to start with others",
        "data_position": "only a retrain has a position in its data",
    }
    instead: ClassVar[Mapping[tuple[str, type[Artifact]], str]] = DATA_INSTEAD
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "the order of the samples depends on the data's SHA-256, not on its place in the "
            "mixture; seeds.init draws the weights, seeds.data the order",
            *NEW_SCHEDULE_NEWS,
            *TRAINING_NEWS,
        )
    }

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from super().problems(stages)
        yield from _model_problems(self.model)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "model": canonicalize(self._model_identity())}

    def architecture(self) -> Architecture:
        """The model's shape.

        Raises:
            ValueError: LitGPT has no such model or field, or the values are incompatible.
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
        # Stating the default changes nothing.
        is_own = model.tied is None or model.tied == architecture(model.name).tied
        return found if is_own else {**found, "tied": model.tied}


def _model_problems(model: str | ModelFields) -> Iterator[Problem]:
    if isinstance(model, str):
        return
    try:
        architecture(model.name, model.replaced)
    except IncompatibleFieldsError as error:
        stated = [("model", field) for field in error.fields if field in model.replaced]
        yield Problem(stated[0] if stated else ("model",), str(error))
