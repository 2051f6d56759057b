"""kind: pretrain - train a freshly initialised LitGPT model on a tokenized dataset."""

from collections.abc import Iterator, Mapping
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
    suggest_model,
)
from continuum.artifacts import Artifact, TokenizedDataset, TrainingCheckpoint
from continuum.model_fields import wrong_value
from continuum.optimizers import Optimizer
from continuum.preflight import forecast_training
from continuum.recipe import (
    Evaluate,
    Recipe,
    Runtime,
    Schedule,
    as_mixture,
    describe_mixture,
    training_problems,
)
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
    """As Lightning Fabric names it; `auto` is 32-true on a CPU, bf16-mixed on CUDA."""
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
    runtime: Runtime = runtime_field(Runtime())
    """How the work is done."""

    produces: ClassVar[type[Artifact]] = TrainingCheckpoint
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "the first step of a warm-up learns: its rate is peak / (warm-up + 1), no longer 0",
            "embeddings that are tied in the model of this name on the Hub stay one tensor",
        ),
    }
    uses_seed: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    preload: ClassVar[str] = "training"

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from training_problems(self)
        yield from _model_problems(self.model)

    def identity(self) -> dict[str, Any]:
        payload = super().identity()
        model = with_one_spelling(payload["model"])
        if isinstance(model, dict) and model.get(TIED) == architecture(self._model_name()).tied:
            model.pop(TIED)  # as it would be unless stated
        return {**payload, "model": model}

    def architecture(self) -> Architecture:
        """The model's shape.

        Raises:
            ValueError: LitGPT has no such model or field, or the values do not fit together.
        """
        overrides = dict(self.model) if isinstance(self.model, dict) else {}
        overrides.pop("name", None)
        tied = overrides.pop(TIED, None)
        return architecture(self._model_name(), overrides, tied=tied)

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        return self._recipe()

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        return forecast_training(self._recipe(), self.architecture(), inputs)

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.session import Origin, train

        recipe = Recipe.model_validate(ctx.recipe, strict=False)
        shape = self.architecture()
        return train(ctx, recipe, Origin(shape.fields, tied=shape.tied))

    def _model_name(self) -> str:
        return str(self.model.get("name", "")) if isinstance(self.model, dict) else self.model

    def _recipe(self) -> Recipe:
        fields = {name: getattr(self, name) for name in Recipe.model_fields if name != "data"}
        return Recipe(data=as_mixture(self.data), **fields)


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
