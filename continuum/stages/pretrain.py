"""kind: pretrain - train a freshly initialised LitGPT model on a tokenized dataset."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.architecture import (
    TIED,
    Architecture,
    MisfitError,
    architecture,
    config_field_names,
    describe_model,
    model_identity,
    suggest_model,
)
from continuum.model_fields import wrong_value
from continuum.preflight import forecast_training
from continuum.preflight.reading import begin_reading
from continuum.recipe import Origin
from continuum.seeds import TrainingSeeds
from continuum.stage import (
    Forecast,
    PlanInput,
    Problem,
    Spec,
    Stage,
    StageContext,
    closest,
    with_one_spelling,
)
from continuum.training_stage import NEW_SCHEDULE_NEWS, TRAINING_NEWS, NewTraining


class Pretrain(NewTraining):
    kind: Literal["pretrain"] = "pretrain"
    model: str | dict[str, Any] = Field(json_schema_extra=describe_model)
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
        return {**super().identity_with(recipe), "model": with_one_spelling(self._model_identity())}

    def architecture(self) -> Architecture:
        """The model's shape.

        Raises:
            ValueError: LitGPT has no such model or field, or the values do not fit together.
        """
        return architecture(self._model_name(), self._model_overrides(), tied=self._tied())

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        recipe = self.recipe({})
        forecast = forecast_training(recipe, self.architecture(), inputs)
        return replace(forecast, reading=begin_reading(recipe, inputs))

    def origin(self, ctx: StageContext) -> Origin:
        shape = self.architecture()
        return Origin(shape.fields, tied=shape.tied)

    def _model_name(self) -> str:
        return str(self.model.get("name", "")) if isinstance(self.model, dict) else self.model

    def _model_overrides(self) -> dict[str, Any]:
        replaced = self.model.items() if isinstance(self.model, dict) else ()
        return {key: value for key, value in replaced if key not in ("name", TIED)}

    def _tied(self) -> bool | None:
        return self.model.get(TIED) if isinstance(self.model, dict) else None

    def _model_identity(self) -> dict[str, Any]:
        name, tied = self._model_name(), self._tied()
        found = model_identity(name, self._model_overrides())
        # As it would be unless stated.
        is_own = tied is None or tied == architecture(name).tied
        return found if is_own else {**found, TIED: tied}


def _model_problems(model: str | dict[str, Any]) -> Iterator[Problem]:
    name = model.get("name") if isinstance(model, dict) else model
    if not isinstance(name, str):
        message = "model needs the 'name' of a LitGPT config, as in {name: pythia-14m, n_layer: 4}"
        yield Problem(("model",), message)
        return
    overrides = dict(model) if isinstance(model, dict) else {}
    overrides.pop("name", None)
    tied = overrides.pop(TIED, False)
    if not isinstance(tied, bool):
        yield Problem(("model", TIED), f"{TIED} should be true or false")
    try:
        fields = architecture(name).fields
    except ValueError as error:
        place = ("model", "name") if isinstance(model, dict) else ("model",)
        yield Problem(place, str(error), suggest_model(name))
        return
    wrong = [p for key in overrides for p in _override_problems(key, overrides[key], fields)]
    yield from wrong
    if wrong:
        return
    try:
        architecture(name, overrides)
    except MisfitError as error:
        said = [("model", field) for field in error.fields if field in overrides]
        yield Problem(said[0] if said else ("model",), str(error))


def _override_problems(key: str, value: Any, fields: Mapping[str, Any]) -> Iterator[Problem]:
    known = (TIED, *config_field_names())
    if key not in known:
        yield Problem(
            ("model", key), f"LitGPT's model config has no field {key!r}", closest(key, known)
        )
        return
    if (wrong := wrong_value(key, value, fields[key])) is not None:
        yield Problem(("model", key), *wrong)
