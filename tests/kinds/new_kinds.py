"""kinds `recite`, `average` and `finetune`: one that makes data, one that makes weights, one that
trains. What new kinds take is this one file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from continuum.errors import Problem
from continuum.experiment.fields import Ref
from continuum.experiment.forecast import Forecast
from continuum.experiment.recipe import Origin
from continuum.experiment.seeds import OrderSeeds
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.preflight import forecast_training
from continuum.runs.artifacts import (
    WEIGHTS_FILE,
    Artifact,
    Checkpoint,
    Corpus,
    CorpusItem,
    ModelWeights,
)
from continuum.runs.files import sha256_file
from continuum.stages.training_stage import NewTraining


class Recite(Stage):
    """Write a text down, line by line."""

    kind: Literal["recite"] = "recite"
    text: str
    """What is recited."""
    times: int = Field(ge=1)
    """Lines of it."""
    edition: str = "latest"
    """The edition of the text."""

    produces: ClassVar[type[Artifact]] = Corpus

    def unpinned(self, pins: Mapping[str, str]) -> Iterator[Problem]:
        if self.edition == "latest":
            yield Problem(("edition",), "the latest edition may be another tomorrow", "first")

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        return Forecast(facts={"files": 1})

    def run(self, ctx: StageContext) -> Corpus:
        path = ctx.output_dir / "recital.txt"
        path.write_text("".join(f"{n}. {self.text}\n" for n in range(self.times)), "utf-8")
        item = CorpusItem(
            file=path.name,
            source="recital",
            size_bytes=path.stat().st_size,
            sha256=sha256_file(path),
            format="txt",
        )
        return Corpus(path=ctx.output_dir, items=(item,))


class Average(Stage):
    """Average the weights of checkpoints, parameter by parameter."""

    kind: Literal["average"] = "average"
    checkpoints: tuple[Ref[Checkpoint], ...] = Field(min_length=2)
    """The models, all of one architecture; `pretrain@step-500` selects a checkpoint of a run."""

    produces: ClassVar[type[Artifact]] = ModelWeights

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        seen = set()
        for index, ref in enumerate(self.checkpoints):
            if (ref.stage, ref.selector) in seen:
                yield Problem(("checkpoints", index), f"{str(ref)!r} is listed twice")
            seen.add((ref.stage, ref.selector))

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        known = [(ref, it) for ref in self.checkpoints if (it := inputs[ref].architecture)]
        problems = [
            Problem(
                ("checkpoints", self.checkpoints.index(ref)),
                f"{str(ref)!r} and {str(known[0][0])!r} are different models; "
                "average checkpoints of one architecture",
            )
            for ref, shape in known
            if shape != known[0][1]
        ]
        shape = inputs[self.checkpoints[0]].architecture
        return Forecast(architecture=shape, problems=tuple(problems))

    def run(self, ctx: StageContext) -> ModelWeights:
        import torch

        from continuum.training.litgpt import check_weights
        from continuum.training.weights import copy_config_files, load_weights

        parents = [ctx.artifact(ref) for ref in self.checkpoints]
        weights = [load_weights(parent.path) for parent in parents]
        # Summed in float64, so that the mean is rounded once, to the type of the weights.
        mean = {
            name: torch.stack([each[name].double() for each in weights]).mean(0).to(tensor.dtype)
            for name, tensor in weights[0].items()
        }
        torch.save(mean, ctx.output_dir / WEIGHTS_FILE)
        copy_config_files(parents[0].path, ctx.output_dir)
        check_weights(ctx.output_dir)
        return ModelWeights(
            path=ctx.output_dir,
            step=max(parent.step for parent in parents),
            tokens_seen=max(parent.tokens_seen for parent in parents),
            tokens_total=max(parent.tokens_total for parent in parents),
            tokens_total_known=all(parent.has_known_total for parent in parents),
            vocabulary_digest=parents[0].vocabulary_digest,
            model_config_fields=parents[0].model_config_fields,
        )


class Finetune(NewTraining):
    """Train weights on, from the beginning of the data."""

    kind: Literal["finetune"] = "finetune"
    from_: Ref[Checkpoint] = Field(alias="from")
    """The weights to begin with."""
    seeds: OrderSeeds = OrderSeeds()

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        return forecast_training(self.recipe({}), inputs[self.from_].architecture, inputs)

    def origin(self, ctx: StageContext) -> Origin:
        parent = ctx.artifact(self.from_)
        return Origin(
            parent.model_config_fields,
            tied=parent.is_tied,
            weights=parent.path,
            tokens_before=parent.tokens_total,
            parent=parent.digest,
        )
