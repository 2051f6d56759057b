"""kind: broken - a kind with a bug, for the tests of what a user is told then."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from continuum.experiment.forecast import Forecast
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.runs.artifacts import Artifact, Corpus


class Broken(Stage):
    """Divides by zero when it is planned."""

    kind: Literal["broken"] = "broken"
    divisor: int = 0
    """What to divide by."""

    produces: ClassVar[type[Artifact]] = Corpus

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        return Forecast(facts={"files": 1 // self.divisor})

    def run(self, ctx: StageContext) -> Corpus:
        raise NotImplementedError
