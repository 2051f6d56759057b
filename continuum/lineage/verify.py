"""Hold every file of an experiment folder against its record, and every record against the others.

`--fast` compares presence, sizes and seals; in full every byte is hashed again. Nothing is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from continuum.artifacts import Artifact
from continuum.errors import IntegrityError
from continuum.files import find_damage, tree_digest
from continuum.records import CheckpointManifest
from continuum.runs import ExperimentFolder, StageRun


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was recorded."""

    run: str
    """The run folder's name."""
    what: str
    """`artifact`, `step-00000500`, `stage.json`, `input pretrain` …"""
    problem: str


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what was found."""

    num_runs: int
    num_checkpoints: int
    num_bytes: int
    """Of the files that were looked at: their recorded sizes."""
    findings: tuple[Finding, ...]


def verify_folder(folder: ExperimentFolder, *, fast: bool) -> Verified:
    """Verify all runs of a folder, finished or not, current or not."""
    findings: list[Finding] = []
    num_runs = num_checkpoints = num_bytes = 0
    artifacts: dict[str, Artifact] = {}
    runs = folder.runs()
    for run in runs:
        num_runs += 1
        for check in _checkpoints(run, fast=fast):
            num_checkpoints += 1
            num_bytes += check.num_bytes
            findings += check.findings
        if run.is_complete:
            check = _artifact(run, artifacts, fast=fast)
            num_bytes += check.num_bytes
            findings += check.findings
    for run in runs:
        findings += _inputs(run, artifacts)
    return Verified(num_runs, num_checkpoints, num_bytes, tuple(findings))


@dataclass(frozen=True)
class _Check:
    num_bytes: int
    findings: tuple[Finding, ...]


def _artifact(run: StageRun, artifacts: dict[str, Artifact], *, fast: bool) -> _Check:
    try:
        artifact = run.artifact()
    except (IntegrityError, ValidationError) as error:
        return _Check(0, (Finding(run.name, "artifact", _first_line(error)),))
    artifacts[run.name] = artifact
    problems = find_damage(artifact.path, artifact.files, read=not fast)
    if tree_digest(artifact.files) != artifact.digest:
        problems.append("artifact.json was changed after it was written")
    size = sum(file.size_bytes for file in artifact.files)
    return _Check(size, tuple(Finding(run.name, "artifact", problem) for problem in problems))


def _checkpoints(run: StageRun, *, fast: bool) -> Iterator[_Check]:
    for path in sorted(run.checkpoints_dir.glob("step-*")):
        try:
            manifest = CheckpointManifest.model_validate_json((path / "manifest.json").read_bytes())
        except (OSError, ValidationError):
            yield _Check(0, (Finding(run.name, path.name, "its manifest.json cannot be read"),))
            continue
        problems = find_damage(path, manifest.files, read=not fast)
        if not manifest.is_sealed:
            problems.append("manifest.json was changed after it was written")
        size = sum(file.size_bytes for file in manifest.files)
        yield _Check(size, tuple(Finding(run.name, path.name, problem) for problem in problems))


def _inputs(run: StageRun, artifacts: dict[str, Artifact]) -> Iterator[Finding]:
    """A finished stage's recorded inputs against what their runs hold now."""
    if not run.is_complete:
        return
    try:
        record = run.record()
    except (IntegrityError, ValidationError) as error:
        yield Finding(run.name, "stage.json", _first_line(error))
        return
    for used in record.inputs:
        parent = StageRun(run.path.parent / used.run)
        if not parent.is_begun:
            yield Finding(run.name, f"input {used.ref}", f"runs/{used.run} is gone")
            continue
        artifact = artifacts.get(used.run)
        if artifact is not None and artifact.digest == used.digest:
            continue
        kept = {saved.manifest.digest for saved in parent.checkpoints()}
        if artifact is not None and used.digest not in kept:
            yield Finding(run.name, f"input {used.ref}", f"runs/{used.run} now holds other bytes")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
