"""The quickstart, as its README has it."""

from typing import Any

from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.folder import StageRun
from tests.commands import Cli, only
from tests.gpu.parts import Setting, check, part
from tests.shipped import copy_shipped

TRAININGS = ("pretrain", "longer", "retrain")
TOY = (5, 7, 4)


@part("quickstart")
def quickstart(setting: Setting) -> dict[str, Any]:
    """The whole flow; a toy takes fewer steps."""
    folder = copy_shipped(setting.work_dir / "shipped") / "experiments" / "quickstart"
    overrides = zip(TRAININGS, TOY, strict=True) if setting.is_toy else ()
    changed = [f"--set=stages.{stage}.max_steps={steps}" for stage, steps in overrides]
    done = Cli()("run", folder, *changed, expect=None)
    print(done.stdout, done.stderr)
    check(done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-1500:]}")
    metrics = {}
    for stage in TRAININGS:
        run = StageRun(only(folder, f"runs/{stage}-*"))
        artifact = run.artifact()
        assert isinstance(artifact, TrainingCheckpoint)
        metrics[stage] = artifact.metrics
        told = run.resolved()
        check(setting.is_toy or told["accelerator"] == "cuda", f"{stage}: {told}")
    return {"metrics": metrics}
