"""kind: pretrain - train a freshly initialised LitGPT model on a tokenized dataset."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.amounts import Count, Steps, Tokens
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
from continuum.artifacts import Artifact, TokenizedDataset, TrainingCheckpoint
from continuum.model_fields import wrong_value
from continuum.optimizers import Optimizer
from continuum.preflight import forecast_training
from continuum.preflight.reading import begin_reading
from continuum.recipe import (
    NEW_SCHEDULE_NEWS,
    TRAINING_NEWS,
    Evaluate,
    Recipe,
    Runtime,
    Schedule,
    as_mixture,
    describe_mixture,
    training_identity,
    training_problems,
)
from continuum.seeds import TrainingSeeds
from continuum.stage import (
    UNIT,
    Forecast,
    PlanInput,
    Precision,
    Problem,
    Ref,
    Spec,
    Stage,
    StageContext,
    closest,
    runtime_field,
    with_one_spelling,
)


class Pretrain(Stage):
    kind: Literal["pretrain"] = "pretrain"
    model: str | dict[str, Any] = Field(json_schema_extra=describe_model)
    """A LitGPT config name, or `{name: pythia-14m, n_layer: 4}` with fields of it replaced;
    `tied` beside them says whether the embedding and the output layer are one tensor, which is as
    in the model of this name on the Hub unless stated."""
    data: Ref[TokenizedDataset] | dict[Ref[TokenizedDataset], float] = Field(
        json_schema_extra=describe_mixture
    )
    """A tokenized dataset, or a mixture `{new: 0.9, old: 0.1}` by shares of the samples."""
    max_tokens: Tokens | None = None
    """Training tokens; whole optimizer steps of them are taken."""
    max_steps: Steps | None = None
    """Optimizer steps."""
    epochs: float | None = Field(
        None, gt=0, allow_inf_nan=False, json_schema_extra={UNIT: "epochs"}, examples=[1, 0.5]
    )
    """Passes over the training data."""
    sequence_length: Count = Field(json_schema_extra={UNIT: "tokens"}, examples=[512, 2048])
    """Tokens in a training sequence."""
    global_batch_size: Count = Field(json_schema_extra={UNIT: "sequences"}, examples=[16, 512])
    """Sequences in an optimizer step, over all devices."""
    precision: Precision = "auto"
    """As Lightning Fabric names it; `auto` is 32-true on a CPU, bf16-mixed on CUDA from compute
    capability 8.0 on, and 16-mixed (or 32-true, with `fsdp`) on older devices."""
    optimizer: Optimizer
    """The optimizer and its peak learning rate."""
    schedule: Schedule = Schedule()
    """The learning rate over the run."""
    max_norm: float | None = Field(1.0, gt=0, allow_inf_nan=False)
    """Gradients are clipped to this norm; null does not clip."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """When gradients are infinite or NaN: `stop` the stage, or `skip` the step and count it."""
    evaluate: Evaluate | None = runtime_field(Evaluate())
    """Loss on the validation split; null does not evaluate."""
    seed: int | None = Field(None, ge=0, lt=2**32)
    """Sets `seeds.init` and `seeds.data` of this stage."""
    seeds: TrainingSeeds = TrainingSeeds()
    """The seeds one by one; those of the experiment where neither says otherwise."""
    runtime: Runtime = runtime_field(Runtime())
    """How the work is done."""

    produces: ClassVar[type[Artifact]] = TrainingCheckpoint
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "the order of the samples is keyed by the data's SHA-256, not by its place in the "
            "mixture; the weights are drawn by seeds.init, the order by seeds.data",
            *NEW_SCHEDULE_NEWS,
            *TRAINING_NEWS,
        )
    }
    trains: ClassVar[bool] = True
    preload: ClassVar[str] = "training"

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from training_problems(self)
        yield from _model_problems(self.model)

    def identity_with(self, recipe: Spec | None) -> dict[str, Any]:
        assert isinstance(recipe, Recipe), "it trains"
        fields = {**self.identity(), "model": with_one_spelling(self._model_identity())}
        return training_identity(fields, recipe)

    def architecture(self) -> Architecture:
        """The model's shape.

        Raises:
            ValueError: LitGPT has no such model or field, or the values do not fit together.
        """
        return architecture(self._model_name(), self._model_overrides(), tied=self._tied())

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        return self._recipe()

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        recipe = self._recipe()
        forecast = forecast_training(recipe, self.architecture(), inputs)
        return replace(forecast, reading=begin_reading(recipe, inputs))

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.session import Origin, train

        recipe = Recipe.model_validate(ctx.recipe, strict=False)
        shape = self.architecture()
        return train(self, ctx, recipe, Origin(shape.fields, tied=shape.tied))

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

    def _recipe(self) -> Recipe:
        own = Recipe.model_fields.keys() - {"data", "data_seed"}
        fields = {name: getattr(self, name) for name in own}
        return Recipe(data=as_mixture(self.data), data_seed=self.seeds.data, **fields)


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
