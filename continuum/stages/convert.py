"""kind: convert - extract the weights of a training checkpoint, without the training state."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from continuum.experiment.fields import Ref
from continuum.experiment.forecast import DiskNeed, Forecast
from continuum.experiment.recipe import Recipe
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.preflight.model_size import bytes_per_parameter
from continuum.preflight.reading import read_by
from continuum.runs.artifacts import (
    COUNTS,
    Artifact,
    ModelWeights,
    TokenizedDataset,
    TrainingCheckpoint,
)


class Convert(Stage):
    kind: Literal["convert"] = "convert"
    from_: Ref[TrainingCheckpoint] = Field(alias="from", examples=["longer", "longer@best"])
    """The training checkpoint, `longer`, `longer@step-500` or `longer@best`."""
    format: Literal["litgpt"] = "litgpt"
    """LitGPT's layout: `lit_model.pth`, `model_config.yaml` and the tokenizer's files."""

    produces: ClassVar[type[Artifact]] = ModelWeights
    aliases: ClassVar[tuple[str, ...]] = (
        "export", "extract", "extract_weights", "convert_pretrained_checkpoint",
        "convert_checkpoint", "convert_from_litgpt", "convert_to_litgpt",
    )  # fmt: skip
    instead: ClassVar[Mapping[tuple[str, type[Artifact]], str]] = {
        ("from", TokenizedDataset): "name a stage that trains",
        ("from", ModelWeights): "they need no conversion: name them where they are used",
    }
    preload: ClassVar[str] = "continuum.training.weights"
    verify_concurrently: ClassVar[bool] = True

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        parent = inputs[self.from_]
        shape = parent.architecture
        parameters = shape.num_parameters() if shape else None
        precision = parent.recipe.precision if isinstance(parent.recipe, Recipe) else "auto"
        size = parameters and parameters * bytes_per_parameter(precision)
        return Forecast(
            facts={"weights_bytes": size} if size else {},
            disk=DiskNeed(size) if size else None,
            architecture=shape,
            vocabulary=parent.vocabulary,
            peak_lr=parent.forecast.peak_lr,
            reading=read_by(parent, self.from_),
        )

    def run(self, ctx: StageContext) -> ModelWeights:
        from continuum.training.weights import extract_weights

        parent = ctx.artifact(self.from_)
        return ModelWeights(
            path=ctx.output_dir,
            files=extract_weights(parent.path, ctx.output_dir),
            **{name: getattr(parent, name) for name in COUNTS},
            vocabulary_digest=parent.vocabulary_digest,
            model_config_fields=parent.model_config_fields,
            data_read=parent.data_read,
            tied=parent.is_tied,
        )
