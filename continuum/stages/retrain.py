"""kind: retrain - continue training from weights, with a new optimizer and new counters."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from continuum.experiment.fields import Ref, Spec
from continuum.experiment.forecast import Forecast
from continuum.experiment.recipe import Origin, Recipe
from continuum.experiment.seeds import OrderSeeds
from continuum.experiment.stage import PlanInput, StageContext
from continuum.preflight import forecast_training
from continuum.preflight.compatibility import tokenizer_problems
from continuum.preflight.reading import begin_reading, read_by, reading_notes
from continuum.runs.artifacts import (
    Artifact,
    Checkpoint,
    Corpus,
    TokenizedDataset,
    TokenizerFiles,
)
from continuum.stages.training_stage import (
    DATA_INSTEAD,
    NEW_SCHEDULE_NEWS,
    TRAINING_NEWS,
    NewTraining,
)


class Retrain(NewTraining):
    kind: Literal["retrain"] = "retrain"
    from_: Ref[Checkpoint] = Field(alias="from", examples=["weights", "pretrain@step-500"])
    """The weights: a `convert`, `download` or `import` stage, or a training checkpoint."""
    data_position: Literal["continue", "restart"] = "continue"
    """Where to start in data that the model was already trained on: `continue` after the samples it
    has read, if `seeds.data` and `sequence_length` are the same, or `restart` at the beginning."""
    seeds: OrderSeeds = Field(OrderSeeds(), examples=[{"data": 1}])
    """Individual seeds; default: `seed`, then the seeds of the experiment."""

    aliases: ClassVar[tuple[str, ...]] = (
        "finetune", "fine_tune", "finetune_full", "finetuning", "fine_tuning", "full_finetune",
        "continue", "continued_pretraining", "continual_pretraining", "continue_pretraining", "cpt",
    )  # fmt: skip
    refused: ClassVar[Mapping[str, str]] = {
        "model": "a retrain keeps the model of its weights, which `from` names",
        "tokenizer": "`data` is tokenized by its own stage",
    }
    instead: ClassVar[Mapping[tuple[str, type[Artifact]], str]] = {
        **DATA_INSTEAD,
        ("from", TokenizedDataset): "name the weights in `from`, and the dataset in `data`",
        ("from", Corpus): "name the weights in `from`, and tokenized texts in `data`",
        ("from", TokenizerFiles): "name the weights in `from`; the tokenizer comes with the data",
    }

    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            "training continues after the samples that the model has already read "
            "(data_position: continue)",
            "the order of the samples depends on the data's SHA-256, not on its place in the "
            "mixture, and on seeds.data",
            *NEW_SCHEDULE_NEWS,
            *TRAINING_NEWS,
        )
    }

    def recipe(self, parents: Mapping[str, Spec | None]) -> Recipe:
        recipe = super().recipe(parents)
        if recipe.evaluate is None or recipe.evaluate.at_start is not None:
            return recipe
        evaluate = recipe.evaluate.model_copy(update={"at_start": True})
        return recipe.model_copy(update={"evaluate": evaluate})

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        parent = inputs[self.from_]
        recipe, read = self.recipe({}), read_by(parent, self.from_)
        reading = begin_reading(recipe, inputs, read, self.data_position)
        forecast = forecast_training(recipe, parent.architecture, inputs)
        notes = (*forecast.notes, *reading_notes(recipe, inputs, read, reading))
        forecast = replace(forecast, reading=reading, notes=notes)
        return forecast.with_problems(tokenizer_problems(recipe, self.from_, parent, inputs))

    def origin(self, ctx: StageContext) -> Origin:
        parent = ctx.artifact(self.from_)
        return Origin(
            parent.model_config_fields,
            tied=parent.is_tied,
            weights=parent.path,
            tokens_before=parent.tokens_total,
            tokens_before_known=parent.has_known_total,
            parent=parent.digest,
            data_read=parent.data_read,
            data_position=self.data_position,
        )
