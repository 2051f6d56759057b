"""Hold every file of an experiment folder against its record, and every record against the others.

`--fast` compares presence, sizes and seals; in full every byte is hashed again. Nothing of what is
looked at is changed. Runs are looked at one by one, on all cores; what one run recorded of another
is compared at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from continuum.lineage.look import Look, look_at
from continuum.lineage.spread import spread
from continuum.lineage.whole import UsedInput, WholeCache
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
    runs = folder.runs()
    cache = WholeCache(folder.whole_cache_path if fast else None)
    looks = spread(lambda run: look_at(run, cache.of(run.name), is_fast=fast), runs)
    seen = {run.name: look for run, look in zip(runs, looks, strict=True)}
    cache.save({run: look.whole for run, look in seen.items()})
    inputs = (_wrong_input(run, used, seen) for run in runs for used in seen[run.name].inputs)
    return Verified(
        len(runs),
        sum(look.num_checkpoints for look in looks),
        sum(look.num_bytes for look in looks),
        (
            *(Finding(run, *told) for run, look in seen.items() for told in look.problems),
            *(finding for finding in inputs if finding is not None),
        ),
    )


def _wrong_input(run: StageRun, used: UsedInput, seen: Mapping[str, Look]) -> Finding | None:
    """A finished run's recorded input against what its run holds now."""
    if used.run not in seen:
        return Finding(run.name, f"input {used.ref}", f"runs/{used.run} is gone")
    digest = seen[used.run].digest
    if digest is None or digest == used.digest:
        return None
    parent = StageRun(run.path.parent / used.run)
    if used.digest in {saved.manifest.digest for saved in parent.checkpoints()}:
        return None
    return Finding(run.name, f"input {used.ref}", f"runs/{used.run} now holds other bytes")
