"""What many tests need: carrying out one stage on real files, without an experiment around it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from continuum.experiment.stage import Stage, StageContext
from continuum.runs.artifacts import Artifact
from continuum.runs.events import Event, Warned
from continuum.runs.files import sha256_file
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord


def run_stage(
    stage: Stage,
    folder: Path,
    *,
    inputs: Mapping[str, Artifact] | None = None,
    seeds: Mapping[str, int] | None = None,
    events: list[Event] | None = None,
    pins: Mapping[str, str] | None = None,
) -> Artifact:
    """Run `stage` in this process, publish its artifact, and return it as others see it."""
    number = len(list((folder / "runs").glob("*"))) if (folder / "runs").exists() else 0
    run = StageRun(folder / "runs" / f"{stage.kind}-{number:012d}")
    run.path.mkdir(parents=True)
    local = stage.local_inputs(folder)
    record = make_record(
        kind=stage.kind,
        identity={"files": {name: sha256_file(path) for name, path in local.items()}},
        seeds={"split": 0} if seeds is None else dict(seeds),
        pins=dict(pins or {}),
    )
    report = events.append if events is not None else lambda event: None
    ctx = StageContext(run, record, inputs or {}, report)
    run.complete(stage.run(ctx))
    return run.artifact()


def make_record(**fields: Any) -> StageRecord:
    """The record of a stage of which only these fields count."""
    empty = {"name": "stage", "kind": "pretrain", "fingerprint": "", "identity": {}, "spec": {}}
    return StageRecord.model_validate({**empty, "inputs": (), "provenance": {}, **fields})


def saving_context(run: StageRun) -> StageContext:
    """What a `Saver` asks of a stage: where its run is."""
    return StageContext(run, make_record(), {}, lambda event: None)


def warnings_in(events: Iterable[Event]) -> list[str]:
    """The messages of the warnings."""
    return [event.message for event in events if isinstance(event, Warned)]


def make_stage(cls: type[Stage], folder: Path, **fields: Any) -> Stage:
    """A stage from its YAML fields, whose relative paths are relative to `folder`."""
    return cls.model_validate({"kind": _kind(cls), **fields}, context={"folder": folder})


def _kind(cls: type[Stage]) -> str:
    from typing import get_args

    (kind,) = get_args(cls.model_fields["kind"].annotation)
    return str(kind)
