"""What lies in an experiment folder when it is planned, read once."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from continuum.errors import IntegrityError
from continuum.experiment.fields import Ref
from continuum.experiment.identity import Identity
from continuum.experiment.selection import select
from continuum.planning.lockfile import LockedStage
from continuum.runs.artifacts import Artifact
from continuum.runs.files import find_damage
from continuum.runs.folder import FINGERPRINT_LETTERS, ExperimentFolder, StageRun
from continuum.runs.records import RESEALED, StageRecord


@dataclass(frozen=True)
class Existing:
    """A stage's run folder as it lay there."""

    run: StageRun
    is_begun: bool = False
    record: StageRecord | None = None
    """Of a run that has begun and whose records are whole."""
    artifact: Artifact | None = None
    """What is there and whole."""
    damage: tuple[str, ...] = ()
    selected: Mapping[str, Artifact | str] = field(default_factory=dict)
    """What each reference selects of the artifact's checkpoints, or why it is not there."""
    saved_steps: tuple[int, ...] = ()
    """Steps of the checkpoints of a run that has not ended."""
    latest: StageRecord | None = None
    """Of a stage that has not begun: the record of its newest run under another fingerprint."""

    def artifact_of(self, ref: Ref[Any]) -> Artifact | None:
        """The artifact that a reference to the stage means; None when it is not there."""
        found = self.selected.get(str(ref), self.artifact)
        return None if isinstance(found, str) else found


def read_existing(
    history: "History",
    identities: Mapping[str, Identity],
    locked: Mapping[str, LockedStage],
    selecting: Mapping[str, Sequence[Ref[Any]]],
) -> dict[str, Existing]:
    """The run folder of every stage, by the stage's name.

    Args:
        selecting: The references that select a checkpoint, by the stage they select it of.
    """
    found: dict[str, Existing] = {}
    fingerprints = {name: it.fingerprint for name, it in identities.items()}
    for name, run in find_runs(history.folder, identities).items():
        if run.is_begun or run.is_complete:
            refs = selecting.get(name, ())
            found[name] = _read_run(run, locked.get(name), refs, fingerprints)
        else:
            found[name] = Existing(run, latest=history.latest(name))
    return found


def find_runs(folder: ExperimentFolder, identities: Mapping[str, Identity]) -> dict[str, StageRun]:
    """The run folder of every stage, whether it exists or not.

    A folder that carries the stage's own name comes first, then one of the same fingerprint that is
    no other stage's: the stage had another name when it ran.
    """
    found: dict[str, StageRun] = {}
    for name, it in identities.items():
        own = [folder.run(name, known) for known in it.known_by]
        if own[0].is_begun or any(_is_of(run, it) for run in own[1:]):
            found[name] = own[0] if own[0].is_begun else own[1]
    taken = {run.name for run in found.values()}
    lying: dict[str, list[StageRun]] = {}
    for name in folder.run_names():
        lying.setdefault(name[-FINGERPRINT_LETTERS:], []).append(StageRun(folder.runs_dir / name))
    for name, it in identities.items():
        if name not in found:
            endings = (known[:FINGERPRINT_LETTERS] for known in it.known_by)
            others = (run for ending in endings for run in lying.get(ending, ()))
            free = (run for run in others if run.name not in taken and _is_of(run, it))
            found[name] = next(free, folder.run(name, it.fingerprint))
            taken.add(found[name].name)
    return {name: found[name] for name in identities}


def _is_of(run: StageRun, it: Identity) -> bool:
    try:
        known = run.record().fingerprint
    except IntegrityError:
        return False
    # What the first form calls the same is taken when it is whole, and never gone on from.
    return known == it.fingerprint or (known == it.earlier and run.is_complete)


def _read_run(
    run: StageRun,
    locked: LockedStage | None,
    selecting: Iterable[Ref[Any]],
    fingerprints: Mapping[str, str],
) -> Existing:
    is_begun = run.is_begun
    try:
        record = run.record()
        if not run.is_complete:
            steps = tuple(saved.step for saved in run.checkpoints())
            return Existing(run, is_begun, record, saved_steps=steps)
        artifact = run.artifact()
        damage = find_damage(artifact.path, artifact.files, read=False)
        damage += [f"{name} {how}" for name, how in run.changed_records()]
    except IntegrityError as error:
        return Existing(run, is_begun, damage=(str(error),))
    if locked is not None and locked.disowns(record.fingerprint, record.made_at, artifact.seal):
        damage.append(f"artifact.json {RESEALED}")
    if damage:
        return Existing(run, is_begun, record, damage=tuple(damage))
    selected = {str(ref): select(artifact, ref, run, record, fingerprints) for ref in selecting}
    return Existing(run, is_begun, record, artifact, selected=selected)


class History:
    """The run folders by stage, read when first asked for."""

    def __init__(self, folder: ExperimentFolder) -> None:
        self.folder = folder

    def latest(self, stage: str) -> StageRecord | None:
        """The record of the stage's newest run; None when it never ran."""
        for run in self.runs_of(stage):
            with suppress(IntegrityError):  # not ours, or of a release with other fields
                return run.record()
        return None

    def runs_of(self, stage: str) -> list[StageRun]:
        """The stage's runs, newest first."""
        found = self._runs.get(stage, [])
        return sorted(found, key=StageRun.begun_at, reverse=True) if len(found) > 1 else found

    @cached_property
    def _runs(self) -> dict[str, list[StageRun]]:
        runs: dict[str, list[StageRun]] = {}
        for run in self.folder.runs():
            runs.setdefault(run.stage_name, []).append(run)
        return runs
