"""The state of each stage's run folder, read once: what a plan decides from."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from continuum.errors import IntegrityError
from continuum.runs.artifacts import Artifact
from continuum.runs.attempts import AttemptState, Owner
from continuum.runs.files import DigestCache, check_folder, find_damage, find_rewritten
from continuum.runs.folder import FINGERPRINT_LETTERS, ExperimentFolder, StageRun
from continuum.runs.records import METRICS, StageRecord


@dataclass(frozen=True)
class RunState:
    """A stage's run folder as it was when it was read."""

    run: StageRun
    is_begun: bool = False
    record: StageRecord | None = None
    """Record of a run that has begun; None if it is corrupt."""
    artifact: Artifact | None = None
    """Result of a complete run; None if it is damaged."""
    damage: tuple[str, ...] = ()
    saved_steps: tuple[int, ...] = ()
    """Steps of the checkpoints of an unfinished run."""
    attempt: AttemptState | None = None
    """How the last attempt of an unfinished run ended, or that it runs; None if unknown."""
    latest: StageRecord | None = None
    """For a stage that has not begun: record of its newest run with another fingerprint."""


class RunHistory:
    """All runs of a folder by stage, read when first asked for."""

    def __init__(self, folder: ExperimentFolder) -> None:
        self._folder = folder

    def latest(self, stage: str) -> StageRecord | None:
        """Record of the stage's newest run; None if it never ran."""
        for run in self.runs_of(stage):
            with suppress(IntegrityError):  # not ours, or written by a release with other fields
                return run.record()
        return None

    def runs_of(self, stage: str) -> list[StageRun]:
        """The stage's runs, newest first."""
        found = self._runs.get(stage, [])
        return sorted(found, key=StageRun.begun_at, reverse=True) if len(found) > 1 else found

    @cached_property
    def _runs(self) -> dict[str, list[StageRun]]:
        runs: dict[str, list[StageRun]] = {}
        for run in self._folder.runs():
            runs.setdefault(run.stage_name, []).append(run)
        return runs


def read_states(
    folder: ExperimentFolder,
    history: RunHistory,
    stages: Mapping[str, Sequence[str]],
    owner: Owner | None = None,
    digests: DigestCache | None = None,
) -> dict[str, RunState]:
    """Read the run folder of every stage.

    Args:
        stages: The fingerprints that each stage may have run with, today's first.
        owner: The process that holds the folder, if it is another one.
        digests: To read files that were written after their record; without it, only sizes are
            compared.
    """
    states: dict[str, RunState] = {}
    for name, run in find_runs(folder, stages).items():
        if run.is_begun or run.is_complete:
            states[name] = read_state(run, owner, digests)
        else:
            check_folder(run.path)
            states[name] = RunState(run, latest=history.latest(name))
    return states


def find_runs(folder: ExperimentFolder, stages: Mapping[str, Sequence[str]]) -> dict[str, StageRun]:
    """The run folder of every stage, whether it exists or not.

    A folder with the stage's own name comes first, then one with the same fingerprint that belongs
    to no other stage: the stage had another name when it ran.
    """
    found: dict[str, StageRun] = {}
    for name, fingerprints in stages.items():
        own = [folder.run(name, fingerprint) for fingerprint in fingerprints]
        if own[0].is_begun or any(_has_run(run, fingerprints) for run in own[1:]):
            found[name] = own[0] if own[0].is_begun else own[1]
    taken = {run.name for run in found.values()}
    by_ending: dict[str, list[StageRun]] = {}
    for folder_name in folder.run_names():
        run = StageRun(folder.runs_dir / folder_name)
        by_ending.setdefault(folder_name[-FINGERPRINT_LETTERS:], []).append(run)
    for name, fingerprints in stages.items():
        if name not in found:
            endings = [fingerprint[:FINGERPRINT_LETTERS] for fingerprint in fingerprints]
            others = (run for ending in endings for run in by_ending.get(ending, ()))
            free = (it for it in others if it.name not in taken and _has_run(it, fingerprints))
            found[name] = next(free, folder.run(name, fingerprints[0]))
            taken.add(found[name].name)
    return {name: found[name] for name in stages}


def _has_run(run: StageRun, fingerprints: Iterable[str]) -> bool:
    """True if the run is one of a stage with these fingerprints."""
    try:
        fingerprint = run.record().fingerprint
    except IntegrityError:
        return False
    today, *earlier = fingerprints
    # A run with an earlier fingerprint is reused when complete, and never resumed.
    return fingerprint == today or (fingerprint in earlier and run.is_complete)


def read_state(
    run: StageRun,
    owner: Owner | None,
    digests: DigestCache | None = None,
    *,
    read_metrics: bool = False,
) -> RunState:
    """Read the folder of a run that has begun: its record, and its result if it is undamaged.

    Args:
        owner: The process that holds the experiment's folder, if it is another one.
        digests: As in `read_states`.
        read_metrics: Whether to read `metrics.jsonl`, of which only the size is compared otherwise.
    """
    is_begun = run.is_begun
    try:
        record = run.record()
        if not run.is_complete:
            steps = tuple(saved.step for saved in run.checkpoints())
            attempt = _read_attempt(run, owner)
            return RunState(run, is_begun, record, saved_steps=steps, attempt=attempt)
        artifact = run.artifact()
        damage = find_damage(artifact.path, artifact.files, read=False)
        damage += [f"{name} {how}" for name, how in run.changed_records(read=read_metrics)]
        if digests is not None and not damage:
            damage = _find_rewritten_damage(run, artifact, digests)
    except IntegrityError as error:
        return RunState(run, is_begun, damage=(str(error),))
    if damage:
        return RunState(run, is_begun, record, damage=tuple(damage))
    return RunState(run, is_begun, record, artifact)


def _read_attempt(run: StageRun, owner: Owner | None) -> AttemptState | None:
    with suppress(IntegrityError):  # its checkpoints can be resumed from nevertheless
        return run.attempt_state(owner)
    return None


def _find_rewritten_damage(run: StageRun, artifact: Artifact, digests: DigestCache) -> list[str]:
    """Read the files of a complete run that were written after its `artifact.json`.

    Costs one system call a file, and one hash of what was touched, restored or edited: the cache
    knows it from then on. Where a folder was copied without its times, that is once every file of
    the runs that the spec leads to. A file that was put in place with an old time is not noticed:
    `verify` reads everything.
    """
    record = run.path / "artifact.json"
    kept = artifact.records.files if artifact.records is not None else ()
    metrics = [it for it in kept if it.path == METRICS]  # the other records were read
    return [
        *digests.find_damage(run.path, find_rewritten(run.path, metrics, record)),
        *digests.find_damage(artifact.path, find_rewritten(artifact.path, artifact.files, record)),
    ]
