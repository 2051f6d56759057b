"""What many tests need: carrying out one stage on real files, without an experiment around it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from continuum.artifacts import Artifact
from continuum.runs import StageRun
from continuum.stage import Stage, StageContext


def run_stage(
    stage: Stage,
    folder: Path,
    *,
    inputs: Mapping[str, Artifact] | None = None,
    seeds: Mapping[str, int] | None = None,
    events: list[dict[str, Any]] | None = None,
) -> Artifact:
    """Run `stage` in this process, publish its artifact, and return it as others see it."""
    number = len(list((folder / "runs").glob("*"))) if (folder / "runs").exists() else 0
    run = StageRun(folder / "runs" / f"{stage.kind}-{number:012d}")
    run.path.mkdir(parents=True)
    ctx = StageContext(
        run=run,
        seeds={"split": 0} if seeds is None else seeds,
        inputs=inputs or {},
        save_steps=(),
        report=(lambda event: events.append(event)) if events is not None else (lambda event: None),
    )
    run.complete(stage.run(ctx))
    return run.artifact()


def make_stage(cls: type[Stage], folder: Path, **fields: Any) -> Stage:
    """A stage from its YAML fields, whose relative paths are relative to `folder`."""
    return cls.model_validate({"kind": _kind(cls), **fields}, context={"folder": folder})


def _kind(cls: type[Stage]) -> str:
    from typing import get_args

    (kind,) = get_args(cls.model_fields["kind"].annotation)
    return str(kind)
