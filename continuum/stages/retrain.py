"""kind: retrain - train weights on; data, optimizer and counters are new."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

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
    """As Lightning Fabric names it; `auto` is 32-true on a CPU, bf16-mixed on CUDA."""
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

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        return self._recipe()

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        parent = inputs[self.from_]
        shape = parent.forecast.architecture
        if isinstance(parent.artifact, Checkpoint):
            shape = Architecture(parent.artifact.model_config_fields, parent.artifact.is_tied)
        forecast = forecast_training(self._recipe(), shape, inputs)
        return forecast.with_problems(self._tokenizer_problems(inputs))

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        from continuum.training.session import Origin, train

        parent = ctx.artifact(self.from_)
        origin = Origin(
            parent.model_config_fields,
            tied=parent.is_tied,
            weights=parent.path,
            tokens_before=parent.tokens_total,
            parent=parent.digest,
        )
        return train(ctx, Recipe.model_validate(ctx.recipe, strict=False), origin)

    def _tokenizer_problems(self, inputs: Mapping[str, PlanInput]) -> Iterator[str]:
        """A model reads token ids: a dataset of another tokenizer would be noise to it."""
        parent = inputs[self.from_].artifact
        if not isinstance(parent, Checkpoint) or parent.vocabulary_digest is None:
            return
        for ref in as_mixture(self.data):
            dataset = inputs[ref].artifact
            if (
                isinstance(dataset, TokenizedDataset)
                and dataset.vocabulary_digest != parent.vocabulary_digest
            ):
                yield (
                    f"dataset {ref!r} was made with another tokenizer than {self.from_!r} was "
                    "trained with; tokenize it with the model's own tokenizer"
                )

    def _recipe(self) -> Recipe:
        fields = {name: getattr(self, name) for name in Recipe.model_fields if name != "data"}
        return Recipe(data=as_mixture(self.data), **fields)
