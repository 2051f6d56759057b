"""kind: average - the mean of several checkpoints of one model.

What a new kind takes: this one file in `continuum/stages/`. The tests copy it there.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from continuum.architecture import Architecture
from continuum.artifacts import Artifact, Checkpoint, ModelWeights
from continuum.stage import Forecast, PlanInput, Problem, Ref, Stage, StageContext


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
                yield Problem(("checkpoints", index), f"{str(ref)!r} is named twice")
            seen.add((ref.stage, ref.selector))

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        shapes = {str(ref): _shape(inputs[ref]) for ref in self.checkpoints}
        known = [(ref, shape) for ref, shape in shapes.items() if shape is not None]
        differing = [ref for ref, shape in known if shape != known[0][1]]
        problems = [
            Problem(
                ("checkpoints",),
                f"{ref!r} and {known[0][0]!r} are different models; "
                "average checkpoints of one architecture",
            )
            for ref in differing
        ]
        return Forecast(architecture=shapes[str(self.checkpoints[0])], problems=tuple(problems))

    def run(self, ctx: StageContext) -> ModelWeights:
        import torch

        from continuum.training.litgpt import check_weights
        from continuum.training.weights import WEIGHTS_FILE, copy_config_files, load_weights

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


def _shape(parent: PlanInput) -> Architecture | None:
    """The model's shape: as it is, else as it will be; None while neither is known."""
    if isinstance(parent.artifact, Checkpoint):
        return Architecture(parent.artifact.model_config_fields)
    return parent.forecast.architecture
