"""Verify the checksums of all files of an experiment folder, and every record against the others.

`--fast` compares presence, sizes and seals; else every byte is hashed again. In a large folder,
`--fast` remembers the runs that it found whole by the stamps of their files (inode and time of
change, as Git's index does) and does not read them again. Nothing else is written.
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
from typing import NamedTuple, Protocol

from pydantic_core import from_json

from continuum.cpus import num_processors
from continuum.errors import IntegrityError
from continuum.runs.artifacts import Artifact
from continuum.runs.files import SETTLED_S, find_damage, sha256_file, tree_digest, write_text
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.runs.records import CHANGED, StageRecord, find_other_seals, read_artifact

MANY = 500
"""Runs of a folder from which on several processes, and remembering, pay."""
SCHEMA = "continuum.verified/1"


class LockedRun(Protocol):
    """What `continuum.lock` says of a finished run."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def seal(self) -> str | None: ...
    def disowns(self, fingerprint: str, made_at: str, seal: str | None) -> bool:
        """True if it was written of this very run, and the run has another record now."""


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


class UsedInput(NamedTuple):
    """What a finished run recorded of another."""

    ref: str
    run: str
    digest: str
    seal: str | None


class Finished(NamedTuple):
    """What a finished run says that others recorded too."""

    digest: str
    fingerprint: str
    made_at: str
    seal: str | None
    replaces: Sequence[str]
    inputs: Sequence[UsedInput]


class Look(NamedTuple):
    """What was found in one run; small, as it is sent between processes."""

    num_checkpoints: int = 0
    num_bytes: int = 0
    finished: Finished | None = None
    """None while the run has not finished, or where its records cannot be read."""
    stamp: str | None = None
    """Of all its files, if it is whole and may be remembered."""
    names: tuple[str, ...] = ()
    """All these files and their folders."""
    problems: Sequence[tuple[str, str]] = ()
    """What is not as recorded, and how: `("artifact", "x.txt is missing")`."""


def verify_folder(
    folder: ExperimentFolder, locked: Iterable[LockedRun] = (), *, fast: bool
) -> Verified:
    """Verify all runs of a folder, finished or not, current or not.

    Args:
        locked: The stages of `continuum.lock`.
        fast: Only look for the files and compare their sizes.
    """
    runs = folder.runs()
    known = _remembered(folder.verified_path) if fast else {}
    looks = dict(_look_at_all(runs, known, fast=fast))
    if fast and len(runs) >= MANY:
        whole = {name: look for name, look in looks.items() if look.stamp is not None}
        if whole != known:
            _remember(folder.verified_path, whole)
    done = {name: look.finished for name, look in looks.items() if look.finished is not None}
    findings = [Finding(name, *it) for name, look in looks.items() for it in look.problems]
    proved: set[str] = set()
    findings += _compare_with_lock(done, locked, proved)
    for name, it in done.items():
        for used in it.inputs:
            findings += _compare_with_input(folder, looks, name, used, proved)
    wrong = {finding.run for finding in findings}
    sound = {name: it for name, it in done.items() if name not in wrong}
    return Verified(
        num_runs=len(runs),
        num_checkpoints=sum(look.num_checkpoints for look in looks.values()),
        num_bytes=sum(look.num_bytes for look in looks.values()),
        findings=(*findings, *_environment_findings(folder)),
        not_proved=tuple(n for n, it in sound.items() if it.seal and n not in proved),
        not_sealed=tuple(n for n, it in sound.items() if not it.seal),
    )


def _look_at_all(
    runs: list[StageRun], known: Mapping[str, Look], *, fast: bool
) -> Iterator[tuple[str, Look]]:
    """A look at each run by its name, on all processors if there are many.

    Where the system cannot fork, has one processor, or kills a process, the work is done here.
    """
    before = [known.get(run.name, Look()) for run in runs]
    stamps, names = [it.stamp for it in before], [it.names for it in before]
    work = ([str(run.path) for run in runs], stamps, names, repeat(fast))
    num_processes = num_processors() if len(runs) >= MANY else 1
    if num_processes == 1 or "fork" not in multiprocessing.get_all_start_methods():
        looks = list(map(_look, *work))
    else:
        from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

        # The process that asked for the work ends it.
        ignoring = (signal.signal, (signal.SIGINT, signal.SIG_IGN))
        context = multiprocessing.get_context("fork")
        try:
            with ProcessPoolExecutor(num_processes, context, *ignoring) as pool:
                looks = list(pool.map(_look, *work, chunksize=-(-len(runs) // num_processes)))
        except BrokenProcessPool:
            looks = list(map(_look, *work))
    for run, earlier, look in zip(runs, before, looks, strict=True):
        yield run.name, earlier if look is None else look


def _look(path: str, known: str | None, names: tuple[str, ...], fast: bool) -> Look | None:
    """Everything that can be said of a run without looking at another.

    Args:
        path: The run folder's.
        known: Its stamp when it was whole; None is returned while it has that.
        names: What that stamp is of.
        fast: Whether sizes are enough; else every byte is read.
    """
    if known is not None and _stamp_of(path, names) == known:
        return None
    names = _names_below(path) if fast else ()
    stamp = _stamp_of(path, names) if fast else None
    look = _RunLook(StageRun(Path(path)), fast=fast)
    done = look.finished()
    stamp = None if look.problems else stamp
    return Look(look.num_checkpoints, look.num_bytes, done, stamp, names, look.problems)


class _RunLook:
    """One look at one run, and what it has found so far."""

    def __init__(self, run: StageRun, *, fast: bool) -> None:
        self.problems: list[tuple[str, str]] = []
        self.num_bytes = 0
        names = run.checkpoint_names()
        self.num_checkpoints = len(names)
        self._run, self._fast = run, fast
        checkpoints = {name: self._artifact(name, run.checkpoints_dir / name) for name in names}
        self._seals = {name: it.seal or "" for name, it in checkpoints.items() if it is not None}

    def finished(self) -> Finished | None:
        """Look at the records and, once there is one, at what the run made."""
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
        """What a run or a checkpoint's folder holds; None where its record is not whole."""
        try:
            artifact = read_artifact(folder)
        except IntegrityError as error:
            self._report(what, [str(error).splitlines()[0].replace(f"{folder}/", "")])
            return None
        self.num_bytes += sum(file.size_bytes for file in artifact.files)
        self._report(what, find_damage(artifact.path, artifact.files, read=not self._fast))
        if tree_digest(artifact.files) == artifact.digest:
            return artifact
        self._report(what, [f"artifact.json {CHANGED}"])
        return None

    def _record(self) -> StageRecord | None:
        """The run's record; None where it is not whole."""
        try:
            record = self._run.record()
        except IntegrityError as error:
            message = str(error).splitlines()[0].replace(f"{self._run.path}/", "")
            self._report("stage.json", [message])
            return None
        parts = (it.get("file") for it in record.provenance.values() if isinstance(it, dict))
        folder = self._run.experiment_folder
        missing = [it for it in parts if it is not None and not (folder / it).is_file()]
        self._report("stage.json", (f"names {it}, which is missing" for it in missing))
        return record

    def _report(self, what: str, problems: Iterable[str]) -> None:
        self.problems += ((what, problem) for problem in problems)


def _names_below(folder: str) -> tuple[str, ...]:
    """All folders and files of a tree, itself included."""
    found = []
    for top, _, files in os.walk(folder):
        found += [top[len(folder) :], *(f"{top[len(folder) :]}/{name}" for name in files)]
    return tuple(found)


def _stamp_of(folder: str, names: Iterable[str]) -> str | None:
    """One stamp for a tree; None if something is gone or changed so lately that it may again.

    Any change of a file, of its size and times included, moves its ctime, and any new name that of
    its folder.
    """
    try:
        found = [(it.st_ino, it.st_ctime) for it in (os.stat(folder + name) for name in names)]  # noqa: PTH116
    except OSError:
        return None
    if time.time() - max(ctime for _, ctime in found) < SETTLED_S:
        return None
    return hashlib.sha256(marshal.dumps(found, 2)).hexdigest()


def _remembered(path: Path) -> dict[str, Look]:
    """What was found whole before, by the names of the runs."""
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
            known[name] = Look._make([*numbers, finished, stamp, trees[tree], ()])
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return {}  # A cache: what cannot be read is looked at again.
    return known


def _remember(path: Path, looks: Mapping[str, Look]) -> None:
    """Remember what is whole; a folder that may not be written is left as it is."""
    trees: dict[tuple[str, ...], int] = {}  # most are alike
    runs = {
        name: [*look[:4], trees.setdefault(look.names, len(trees))] for name, look in looks.items()
    }
    document = {"schema": SCHEMA, "trees": list(trees), "runs": runs}
    with suppress(OSError):
        write_text(path, json.dumps(document, separators=(",", ":")))


def _environment_findings(folder: ExperimentFolder) -> Iterator[Finding]:
    """Files below `runs/.environment/` that are not what their names, their SHA-256, say."""
    for path in folder.environment_files():
        try:
            problem = None if sha256_file(path) == path.stem else CHANGED
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        if problem:
            yield Finding(folder.environment_dir.name, path.name, problem)


def _compare_with_lock(
    done: Mapping[str, Finished], stages: Iterable[LockedRun], proved: set[str]
) -> Iterator[Finding]:
    """Compare with `continuum.lock`, which may be of equal work that was done elsewhere.

    Args:
        proved: Gets the runs whose seal is recorded there.
    """
    locked = {entry.fingerprint: entry for entry in stages}
    for name, it in done.items():
        entry = locked.get(it.fingerprint)
        if entry is not None and it.seal is not None and it.seal == entry.seal:
            proved.add(name)
        elif entry is not None and entry.disowns(it.fingerprint, it.made_at, it.seal):
            problem = "was sealed anew: continuum.lock has another seal of this run"
            yield Finding(name, "artifact.json", problem)


def _compare_with_input(
    folder: ExperimentFolder,
    looks: Mapping[str, Look],
    run: str,
    used: UsedInput,
    proved: set[str],
) -> Iterator[Finding]:
    """Compare what a finished run recorded of one that it used with what that is now."""
    if used.run not in looks:
        yield Finding(run, f"input {used.ref}", f"runs/{used.run} is gone")
        return
    parent = looks[used.run].finished
    if parent is None:
        return
    digests = {parent.digest}
    if used.digest != parent.digest:
        try:
            digests |= {it.digest for it in StageRun(folder.runs_dir / used.run).checkpoints()}
        except IntegrityError:  # found and told already
            digests.add(used.digest)
    if used.digest not in digests:
        yield Finding(run, f"input {used.ref}", f"runs/{used.run} now holds other bytes")
    elif used.seal is not None and used.seal == parent.seal:
        proved.add(used.run)
    elif used.seal is not None and used.seal not in parent.replaces:
        problem = f"was sealed anew: runs/{run}, which was made from it, has another seal"
        yield Finding(used.run, "artifact.json", problem)
