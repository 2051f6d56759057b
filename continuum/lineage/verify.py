"""Verify the checksums of all run files of an experiment, and each record against the others.

`--fast` compares presence, sizes and seals instead of hashing all files. In a large folder, it
caches the runs that it has verified by the stamps of their files (inode and time of change, as
Git's index does) and does not read them again. Nothing else is written.
"""

import hashlib
import json
import marshal
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic_core import from_json

from continuum.cpus import num_processors
from continuum.errors import IntegrityError
from continuum.runs.artifacts import Artifact
from continuum.runs.files import SETTLED_S, find_damage, sha256_file, tree_digest, write_text
from continuum.runs.folder import FINGERPRINT_LETTERS, ExperimentFolder, StageRun
from continuum.runs.records import CHANGED, RESEALED, StageRecord, find_other_seals, read_artifact

MANY = 500
"""Number of runs from which several processes, and the cache, pay off."""
SCHEMA = "continuum.verified/1"


class LockedRun(Protocol):
    """The entry of `continuum.lock` for a finished run."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def artifact(self) -> str | None: ...
    @property
    def seal(self) -> str | None: ...
    def disowns(self, fingerprint: str, made_at: str, seal: str | None) -> bool:
        """Whether it was written for this very run, whose record has changed since."""


@dataclass(frozen=True)
class Finding:
    """A file or record that failed verification."""

    run: str
    """The name of the run folder; `.environment` for files that several runs share."""
    what: str
    """`artifact`, `step-00000500`, `stage.json`, `input pretrain` …"""
    problem: str


@dataclass(frozen=True)
class Verified:
    """The result of a verification."""

    num_runs: int
    num_checkpoints: int
    num_bytes: int
    """Size of the runs; hard links count once."""
    findings: tuple[Finding, ...]
    not_proved: tuple[str, ...]
    """Finished runs whose seal is recorded nowhere else: it may have been recomputed."""
    links: tuple[str, ...]
    """Folders that were replaced by links, by their path below `runs/`."""
    not_sealed: tuple[str, ...]
    """Finished runs of earlier releases: their files are compared with unsealed records."""
    not_here: tuple[str, ...]
    """Stages of `continuum.lock` whose runs are not in the folder, as in a fresh clone."""


class UsedInput(NamedTuple):
    """An input as a finished run recorded it."""

    ref: str
    run: str
    digest: str
    seal: str | None


class Finished(NamedTuple):
    """The facts about a finished run that other records repeat."""

    digest: str
    fingerprint: str
    made_at: str
    seal: str | None
    replaces: Sequence[str]
    inputs: Sequence[UsedInput]


class InspectionResult(NamedTuple):
    """The result for one run; small, since processes exchange it."""

    num_checkpoints: int = 0
    num_bytes: int = 0
    finished: Finished | None = None
    """None if the run has not finished, or its records cannot be read."""
    stamp: str | None = None
    """Of all its files, if nothing is wrong with it and it can be cached."""
    names: tuple[str, ...] = ()
    problems: Sequence[tuple[str, str]] = ()
    """The parts that are wrong, and how: `("artifact", "x.txt is missing")`."""


def verify_folder(
    folder: ExperimentFolder, locked: Mapping[str, LockedRun], *, fast: bool
) -> Verified:
    """Verify all runs of a folder, finished or not, current or not.

    Args:
        locked: The stages of `continuum.lock`, by name.
        fast: Only compare the presence and sizes of files.
    """
    runs = folder.runs()
    cached = _read_cache(folder.verified_path) if fast else {}
    results = _inspect_all(runs, cached, fast=fast)
    if fast and len(runs) >= MANY:
        cacheable = {name: result for name, result in results.items() if result.stamp is not None}
        if cacheable != cached:
            _write_cache(folder.verified_path, cacheable)
    done = {name: it.finished for name, it in results.items() if it.finished is not None}
    findings = [Finding(name, *it) for name, result in results.items() for it in result.problems]
    proved: set[str] = set()
    findings += _compare_with_lock(done, locked.values(), proved)
    for name, it in done.items():
        for used in it.inputs:
            findings += _compare_with_input(folder, results, name, used, proved)
    wrong = {finding.run for finding in findings}
    sound = {name: it for name, it in done.items() if name not in wrong}
    return Verified(
        num_runs=len(runs),
        num_checkpoints=sum(it.num_checkpoints for it in results.values()),
        num_bytes=sum(it.num_bytes for it in results.values()),
        findings=(*findings, *_dangling_links(folder), *_environment_findings(folder)),
        links=tuple(link for run in runs for link in run.links()),
        not_proved=tuple(n for n, it in sound.items() if it.seal and n not in proved),
        not_sealed=tuple(n for n, it in sound.items() if not it.seal),
        not_here=_absent(folder.run_names(), done, locked),
    )


def _absent(
    names: Iterable[str], done: Mapping[str, Finished], locked: Mapping[str, LockedRun]
) -> tuple[str, ...]:
    """The locked stages without a run folder and without an equal result in another one."""
    endings = {name[-FINGERPRINT_LETTERS:] for name in names}
    digests = {it.digest for it in done.values()}
    return tuple(
        stage
        for stage, it in locked.items()
        if it.fingerprint[:FINGERPRINT_LETTERS] not in endings and it.artifact not in digests
    )


def _inspect_all(
    runs: list[StageRun], cached: Mapping[str, InspectionResult], *, fast: bool
) -> dict[str, InspectionResult]:
    """Inspect the runs, by name, on all processors if there are many."""
    before = [cached.get(run.name, InspectionResult()) for run in runs]
    stamps, names = [it.stamp for it in before], [it.names for it in before]
    work = ([str(run.path) for run in runs], stamps, names, repeat(fast))
    found = _parallel_map(work, len(runs)) if len(runs) >= MANY else map(_inspect, *work)
    pairs = zip(runs, before, found, strict=True)
    return {run.name: earlier if result is None else result for run, earlier, result in pairs}


def _parallel_map(work: Sequence[Iterable[Any]], size: int) -> list[InspectionResult | None]:
    """Map `_inspect` in several processes, or here if the system cannot fork or kills one."""
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    num_processes = num_processors()
    if num_processes > 1 and "fork" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("fork")
        # The parent handles an interrupt and ends the others.
        ignoring = (signal.signal, (signal.SIGINT, signal.SIG_IGN))
        with (
            suppress(BrokenProcessPool),
            ProcessPoolExecutor(num_processes, context, *ignoring) as pool,
        ):
            return list(pool.map(_inspect, *work, chunksize=-(-size // num_processes)))
    return list(map(_inspect, *work))


def _inspect(
    path: str, known: str | None, names: tuple[str, ...], fast: bool
) -> InspectionResult | None:
    """Verify everything in a run that does not depend on another; None if its stamp is `known`.

    Args:
        path: The run folder.
        known: The cached stamp, if any.
        names: The paths below the folder that the stamp covers.
        fast: Whether to check sizes only instead of reading all files.
    """
    if known is not None and _stamp_of(path, names) == known:
        return None
    names = _names_below(path) if fast else ()
    stamp = _stamp_of(path, names) if fast else None
    inspection = _Inspection(StageRun(Path(path)), fast=fast)
    done, problems = inspection.finished(), inspection.problems
    num_checkpoints, num_bytes = inspection.num_checkpoints, inspection.num_bytes
    stamp = None if problems else stamp
    return InspectionResult(num_checkpoints, num_bytes, done, stamp, names, problems)


class _Inspection:
    """The inspection of one run and its findings so far."""

    def __init__(self, run: StageRun, *, fast: bool) -> None:
        self.problems: list[tuple[str, str]] = []
        self.num_bytes = run.size_bytes()
        names = run.checkpoint_names()
        self.num_checkpoints = len(names)
        self._run, self._fast = run, fast
        checkpoints = {name: self._artifact(name, run.checkpoints_dir / name) for name in names}
        self._seals = {name: it.seal or "" for name, it in checkpoints.items() if it is not None}

    def finished(self) -> Finished | None:
        """Verify the records and, if there is one, the artifact."""
        artifact = self._artifact("artifact", self._run.path) if self._run.is_complete else None
        record = self._record()
        if artifact is None or record is None:
            return None
        self.problems += self._run.changed_records(read=not self._fast)
        if artifact.records is not None:
            self.problems += find_other_seals(artifact.records, self._seals)
        inputs = [UsedInput(it.ref, it.run, it.digest, it.seal) for it in record.inputs]
        own = (record.fingerprint, record.made_at, artifact.seal, record.replaces)
        return Finished(artifact.digest, *own, inputs)

    def _artifact(self, what: str, folder: Path) -> Artifact | None:
        """The artifact in a run or checkpoint folder; None if its record is invalid."""
        try:
            artifact = read_artifact(folder)
        except IntegrityError as error:
            self._report_error(what, error, folder)
            return None
        self._report(what, find_damage(artifact.path, artifact.files, read=not self._fast))
        if tree_digest(artifact.files) == artifact.digest:
            return artifact
        self._report(what, [f"artifact.json {CHANGED}"])
        return None

    def _record(self) -> StageRecord | None:
        """The record of the run; None if it is invalid."""
        try:
            record = self._run.record()
        except IntegrityError as error:
            self._report_error("stage.json", error, self._run.path)
            return None
        parts = (it.get("file") for it in record.provenance.values() if isinstance(it, dict))
        folder = self._run.experiment_folder
        missing = [it for it in parts if it is not None and not (folder / it).is_file()]
        self._report("stage.json", (f"names {it}, which is missing" for it in missing))
        return record

    def _report(self, what: str, problems: Iterable[str]) -> None:
        self.problems += ((what, problem) for problem in problems)

    def _report_error(self, what: str, error: IntegrityError, folder: Path) -> None:
        self._report(what, [str(error).splitlines()[0].replace(f"{folder}/", "")])


def _names_below(folder: str) -> tuple[str, ...]:
    found = []
    for top, _, files in os.walk(folder):
        found += [top[len(folder) :], *(f"{top[len(folder) :]}/{name}" for name in files)]
    return tuple(found)


def _stamp_of(folder: str, names: Iterable[str]) -> str | None:
    """One stamp for a tree; None if something is missing or has changed too recently.

    Any change of a file or of its times changes its ctime; a new name changes that of its folder.
    """
    try:
        found = [(it.st_ino, it.st_ctime) for it in (os.stat(folder + name) for name in names)]  # noqa: PTH116
    except OSError:
        return None
    if time.time() - max(ctime for _, ctime in found) < SETTLED_S:
        return None
    return hashlib.sha256(marshal.dumps(found, 2)).hexdigest()


def _read_cache(path: Path) -> dict[str, InspectionResult]:
    """The runs that were verified before, by name."""
    known = {}
    try:
        document = from_json(path.read_bytes())
        trees = (
            [tuple(names) for names in document["trees"]] if document["schema"] == SCHEMA else []
        )
        for name, (*numbers, finished, stamp, tree) in document["runs"].items():
            if finished is not None:
                *fields, inputs = finished
                finished = Finished._make([*fields, [UsedInput(*used) for used in inputs]])
            known[name] = InspectionResult._make([*numbers, finished, stamp, trees[tree], ()])
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return {}  # An unreadable cache counts as empty.
    return known


def _write_cache(path: Path, results: Mapping[str, InspectionResult]) -> None:
    """Cache verified runs; a read-only folder is left as it is."""
    trees: dict[tuple[str, ...], int] = {}  # most are equal
    runs = {name: [*it[:4], trees.setdefault(it.names, len(trees))] for name, it in results.items()}
    document = {"schema": SCHEMA, "trees": list(trees), "runs": runs}
    with suppress(OSError):
        write_text(path, json.dumps(document, separators=(",", ":")))


def _environment_findings(folder: ExperimentFolder) -> Iterator[Finding]:
    """Files below `runs/.environment/` whose SHA-256 differs from their name."""
    for path in folder.environment_files():
        try:
            problem = None if sha256_file(path) == path.stem else CHANGED
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        if problem:
            yield Finding(folder.environment_dir.name, path.name, problem)


def _dangling_links(folder: ExperimentFolder) -> Iterator[Finding]:
    """Run folders that are links to nothing, which are not among the runs."""
    for name in folder.run_names():
        path = folder.runs_dir / name
        if path.is_symlink() and not path.exists():
            target = path.readlink()
            yield Finding(name, "folder", f"is a link to {target}, which does not exist")


def _compare_with_lock(
    done: Mapping[str, Finished], stages: Iterable[LockedRun], proved: set[str]
) -> Iterator[Finding]:
    """Compare with `continuum.lock`, which may describe an equal run on another machine.

    Args:
        proved: Receives the runs whose seal is recorded there.
    """
    locked = {entry.fingerprint: entry for entry in stages}
    for name, it in done.items():
        entry = locked.get(it.fingerprint)
        if entry is not None and it.seal is not None and it.seal == entry.seal:
            proved.add(name)
        elif entry is not None and entry.disowns(it.fingerprint, it.made_at, it.seal):
            yield Finding(name, "artifact.json", RESEALED)


def _compare_with_input(
    folder: ExperimentFolder,
    results: Mapping[str, InspectionResult],
    run: str,
    used: UsedInput,
    proved: set[str],
) -> Iterator[Finding]:
    """Compare what a finished run recorded about an input with what that is now."""
    if used.run not in results:
        yield Finding(run, f"input {used.ref}", f"runs/{used.run} is missing")
        return
    parent = results[used.run].finished
    if parent is None:
        return
    digests = {parent.digest}
    if used.digest != parent.digest:
        try:
            digests |= {it.digest for it in StageRun(folder.runs_dir / used.run).checkpoints()}
        except IntegrityError:  # already reported
            digests.add(used.digest)
    if used.digest not in digests:
        yield Finding(run, f"input {used.ref}", f"the content of runs/{used.run} changed")
    elif used.seal is not None and used.seal == parent.seal:
        proved.add(used.run)
    elif used.seal is not None and used.seal not in parent.replaces:
        problem = f"was edited and resealed: runs/{run}, which used it, recorded another seal"
        yield Finding(used.run, "artifact.json", problem)
