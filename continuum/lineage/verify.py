"""Hold every file of an experiment folder against its record, and every record against the others.

`--fast` compares presence, sizes and seals; in full every byte is hashed again. Nothing of what is
looked at is changed. Runs are looked at one by one, on all cores. What one run, or the lock,
recorded of another is compared at the end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from continuum.errors import IntegrityError
from continuum.files import sha256_file
from continuum.lineage.look import CHANGED, look_at
from continuum.lineage.spread import spread
from continuum.lineage.whole import Finished, UsedInput, WholeCache
from continuum.lock import LockedStage, read_lock
from continuum.runs import ExperimentFolder, StageRun


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was recorded."""

    run: str
    """The run folder's name; `.environment` for what the records of several runs share."""
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
    not_proved: tuple[str, ...]
    """Finished runs whose seal is recorded nowhere else: it may have been computed anew."""
    not_sealed: tuple[str, ...]
    """Finished runs of an earlier release: their files are compared with their records alone."""


def verify_folder(folder: ExperimentFolder, *, fast: bool) -> Verified:
    """Verify all runs of a folder, finished or not, current or not.

    Raises:
        IntegrityError: continuum.lock cannot be read.
    """
    lock = read_lock(folder.pins_path)
    runs = folder.runs()
    cache = WholeCache(folder.whole_cache_path if fast else None)
    looks = spread(lambda run: look_at(run, cache.of(run.name), is_fast=fast), runs)
    cache.save({run.name: look.whole for run, look in zip(runs, looks, strict=True)})
    done = {run.name: look.finished for run, look in zip(runs, looks, strict=True)}
    witnesses = _Witnesses(folder.runs_dir, done)
    witnesses.hear_the_lock(lock.stages if lock is not None else {})
    witnesses.hear_the_runs()
    wrong = {run.name for run, look in zip(runs, looks, strict=True) if look.problems}
    wrong |= {finding.run for finding in witnesses.findings}
    sound = {name: it for name, it in done.items() if it is not None and name not in wrong}
    return Verified(
        len(runs),
        sum(look.num_checkpoints for look in looks),
        sum(look.num_bytes for look in looks),
        (
            *(Finding(run.name, *told) for run, look in zip(runs, looks, strict=True)
              for told in look.problems),
            *witnesses.findings,
            *_environment_findings(folder),
        ),
        tuple(n for n, it in sound.items() if it.seal and n not in witnesses.proved),
        tuple(n for n, it in sound.items() if not it.seal),
    )  # fmt: skip


def _environment_findings(folder: ExperimentFolder) -> Iterator[Finding]:
    """Files below `runs/.environment/` that are not what their names, their SHA-256, say."""
    for path in folder.environment_files():
        try:
            problem = None if sha256_file(path) == path.stem else CHANGED
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        if problem:
            yield Finding(folder.environment_dir.name, path.name, problem)


class _Witnesses:
    """What is recorded of runs elsewhere than in their own folders."""

    def __init__(self, runs_dir: Path, done: Mapping[str, Finished | None]) -> None:
        self.findings: list[Finding] = []
        self.proved: set[str] = set()
        """Runs whose seal is recorded elsewhere too."""
        self._runs_dir = runs_dir
        self._done = done

    def hear_the_lock(self, stages: Mapping[str, LockedStage]) -> None:
        """Compare with `continuum.lock`, which may be of equal work that was done elsewhere."""
        locked = {entry.fingerprint: entry for entry in stages.values()}
        for name, it in self._done.items():
            entry = locked.get(it.fingerprint) if it is not None else None
            if it is None or entry is None:
                continue
            if it.seal is not None and it.seal == entry.seal:
                self.proved.add(name)
            elif entry.disowns(it.fingerprint, it.made_at, it.seal):
                problem = "was sealed anew: continuum.lock has another seal of this run"
                self.findings.append(Finding(name, "artifact.json", problem))

    def hear_the_runs(self) -> None:
        """Compare with what finished runs recorded of those they used."""
        for name, it in self._done.items():
            for used in it.inputs if it is not None else ():
                self.findings += self._wrong_input(name, used)

    def _wrong_input(self, run: str, used: UsedInput) -> Iterator[Finding]:
        if used.run not in self._done:
            yield Finding(run, f"input {used.ref}", f"runs/{used.run} is gone")
            return
        parent = self._done[used.run]
        if parent is None:
            return
        if used.digest not in {parent.digest, *self._checkpoints(used, parent)}:
            yield Finding(run, f"input {used.ref}", f"runs/{used.run} now holds other bytes")
        elif used.seal is not None and used.seal == parent.seal:
            self.proved.add(used.run)
        elif used.seal is not None and used.seal not in parent.replaces:
            problem = f"was sealed anew: runs/{run}, which was made from it, has another seal"
            yield Finding(used.run, "artifact.json", problem)

    def _checkpoints(self, used: UsedInput, parent: Finished) -> set[str]:
        """The digests of the parent's checkpoints, where they are needed."""
        if used.digest == parent.digest:
            return set()
        try:
            saved = StageRun(self._runs_dir / used.run).checkpoints()
        except IntegrityError:  # found and told already
            return {used.digest}
        return {checkpoint.manifest.digest for checkpoint in saved}
