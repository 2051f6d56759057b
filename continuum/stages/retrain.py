"""kind: retrain - train weights on; optimizer and counters are new, data is read on."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from continuum.amounts import Count, Steps, Tokens
from continuum.architecture import Architecture
from continuum.artifacts import (
    Artifact,
    Checkpoint,
    TokenizedDataset,
    TrainingCheckpoint,
)
from continuum.optimizers import Optimizer
from continuum.preflight import forecast_training
from continuum.preflight.reading import begin_reading, read_by, reading_notes
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
from continuum.seeds import OrderSeeds
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
    runtime_field,
)


class Retrain(Stage):
    kind: Literal["retrain"] = "retrain"
    from_: Ref[Checkpoint] = Field(alias="from", examples=["weights", "pretrain@step-500"])
    """The weights: of a `convert`, `download` or `import`, or those of a training checkpoint."""
    data: Ref[TokenizedDataset] | dict[Ref[TokenizedDataset], float] = Field(
        json_schema_extra=describe_mixture
    )
    """A tokenized dataset, or a mixture `{new: 0.9, old: 0.1}` by shares of the samples."""
    data_position: Literal["continue", "restart"] = "continue"
    """Where to begin in data that the model was trained on before: `continue` after what was read,
    if `seeds.data` and `sequence_length` are the same, or `restart` at the beginning."""
    max_tokens: Tokens | None = None
    """Training tokens of this stage; whole optimizer steps of them are taken."""
    max_steps: Steps | None = None
    """Optimizer steps of this stage."""
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
    """The optimizer, with a learning rate chosen for this model: there is no default."""
    schedule: Schedule = Schedule()
    """The learning rate over the stage; it warms up again."""
    max_norm: float | None = Field(1.0, gt=0, allow_inf_nan=False)
    """Gradients are clipped to this norm; null does not clip."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """When gradients are infinite or NaN: `stop` the stage, or `skip` the step and count it."""
    evaluate: Evaluate | None = runtime_field(Evaluate())
    """Loss on the validation splits; null does not evaluate."""
    seed: int | None = Field(None, ge=0, lt=2**32)
    """Sets `seeds.data` of this stage."""
    seeds: OrderSeeds = OrderSeeds()
    """The seeds one by one; those of the experiment where neither says otherwise."""
    runtime: Runtime = runtime_field(Runtime())
    """How the work is done."""

    produces: ClassVar[type[Artifact]] = TrainingCheckpoint
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "data that the model was trained on before is read on from where that ended "
            "(data_position: continue)",
            "the order of the samples is keyed by the data's SHA-256, not by its place in the "
            "mixture, and drawn by seeds.data",
            *NEW_SCHEDULE_NEWS,
            *TRAINING_NEWS,
        )
    }
    trains: ClassVar[bool] = True
    preload: ClassVar[str] = "training"

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        yield from training_problems(self)

    def identity_with(self, recipe: Spec | None) -> dict[str, Any]:
        assert isinstance(recipe, Recipe), "it trains"
        return training_identity(self.identity(), recipe)

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        return self._recipe()

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        parent = inputs[self.from_]
        shape = parent.forecast.architecture
        if isinstance(parent.artifact, Checkpoint):
            shape = Architecture(parent.artifact.model_config_fields, parent.artifact.is_tied)
        recipe, read = self._recipe(), read_by(parent, self.from_)
        reading = begin_reading(recipe, inputs, read, self.data_position)
        forecast = replace(
            forecast_training(recipe, shape, inputs),
            reading=reading,
            notes=tuple(reading_notes(recipe, inputs, read, reading)),
        )
        return forecast.with_problems(self._tokenizer_problems(inputs))

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.session import Origin, train

        parent = ctx.artifact(self.from_)
        origin = Origin(
            parent.model_config_fields,
            tied=parent.is_tied,
            weights=parent.path,
            tokens_before=parent.tokens_total,
            tokens_before_known=parent.has_known_total,
            parent=parent.digest,
            data_read=parent.data_read,
            data_position=self.data_position,
        )
        return train(self, ctx, Recipe.model_validate(ctx.recipe, strict=False), origin)

    def _tokenizer_problems(self, inputs: Mapping[str, PlanInput]) -> Iterator[Problem]:
        """A model reads token ids: a dataset of another tokenizer would be noise to it."""
        parent = inputs[self.from_].artifact
        if not isinstance(parent, Checkpoint) or parent.vocabulary_digest is None:
            return
        for ref in self._recipe().all_data:
            dataset = inputs[ref].artifact
            if (
                isinstance(dataset, TokenizedDataset)
                and dataset.vocabulary_digest != parent.vocabulary_digest
            ):
                yield Problem(
                    ("data", str(ref)),
                    f"dataset {ref!r} was made with another tokenizer than {self.from_!r} was "
                    "trained with; tokenize it with the model's own tokenizer",
                    needs="folder",
                )

    def _recipe(self) -> Recipe:
        own = Recipe.model_fields.keys() - {"data", "data_seed"}
        fields = {name: getattr(self, name) for name in own}
        if self.evaluate is not None and self.evaluate.at_start is None:
            fields["evaluate"] = self.evaluate.model_copy(update={"at_start": True})
        return Recipe(data=as_mixture(self.data), data_seed=self.seeds.data, **fields)
