"""The state of an experiment's folder, read once: a plan is decided from these values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import Ref
from continuum.experiment.identity import Identity, identify_stages
from continuum.experiment.selection import select
from continuum.planning.lockfile import Lockfile, read_lockfile
from continuum.runs.artifacts import Artifact
from continuum.runs.attempts import Owner
from continuum.runs.files import DigestCache
from continuum.runs.folder import ExperimentFolder
from continuum.runs.records import RESEALED
from continuum.runs.run_state import RunHistory, RunState, read_states


@dataclass(frozen=True)
class FolderState:
    """The stages of an experiment, and what its folder holds of each."""

    folder: ExperimentFolder
    identities: Mapping[str, Identity]
    """By the stage's name, in an order in which the stages can run."""
    runs: Mapping[str, RunState]
    history: RunHistory
    lockfile: Lockfile | None = None
    """With the stages' names of today; None if there is no `continuum.lock`."""
    selections: Mapping[str, Sequence[Ref[Any]]] = field(default_factory=dict)
    """The references that select a checkpoint, by the stage that they select it from."""
    selected: Mapping[str, Artifact | str] = field(default_factory=dict)
    """The checkpoint that a reference selects, by reference, or why there is none."""
    owner: Owner | None = None
    """The process that holds the folder's lock, if it is not the reader."""

    def artifact_of(self, ref: Ref[Any]) -> Artifact | None:
        """The artifact that a reference means; None while it does not exist."""
        found = self.selected.get(str(ref), self.runs[ref.stage].artifact)
        return None if isinstance(found, str) else found


def read_folder(
    experiment: Experiment, folder: ExperimentFolder, *, is_writer: bool = False
) -> FolderState:
    """Identify the stages of an experiment and read what its folder holds of them.

    Args:
        is_writer: Whether the caller holds the folder's lock. If so, files of complete runs that
            were written after their record are read, and hashes are kept for the next time.

    Raises:
        IntegrityError: `continuum.lock` cannot be read.
    """
    lockfile = read_lockfile(folder.lockfile_path)
    digests = DigestCache(folder.digest_cache_path)
    identities = identify_stages(experiment, folder.path, digests.sha256)
    known_by = {name: it.known_by for name, it in identities.items()}
    history = RunHistory(folder)
    owner = None if is_writer else folder.owner()
    runs = read_states(folder, history, known_by, owner, digests if is_writer else None)
    if is_writer:
        digests.save()
    if lockfile is not None:
        lockfile = lockfile.renamed(known_by)
        runs = {name: _trusted(run, lockfile, name) for name, run in runs.items()}
    selections = _selections(identities)
    selected = _select(selections, runs, identities)
    return FolderState(folder, identities, runs, history, lockfile, selections, selected, owner)


def _selections(identities: Mapping[str, Identity]) -> dict[str, list[Ref[Any]]]:
    found: dict[str, list[Ref[Any]]] = {}
    for ref in (ref for it in identities.values() for ref in it.refs):
        if ref.step is not None or ref.metric is not None:
            found.setdefault(ref.stage, []).append(ref)
    return found


def _trusted(state: RunState, lockfile: Lockfile, name: str) -> RunState:
    """The state; damaged if its artifact has another seal than the lockfile."""
    locked, record, artifact = lockfile.stages.get(name), state.record, state.artifact
    if locked is None or record is None or artifact is None:
        return state
    if not locked.disowns(record.fingerprint, record.made_at, artifact.seal):
        return state
    return replace(state, artifact=None, damage=(f"artifact.json {RESEALED}",))


def _select(
    selections: Mapping[str, Sequence[Ref[Any]]],
    runs: Mapping[str, RunState],
    identities: Mapping[str, Identity],
) -> dict[str, Artifact | str]:
    """Select the checkpoints that the stages refer to, of the stages that are complete."""
    fingerprints = {name: it.fingerprint for name, it in identities.items()}
    found: dict[str, Artifact | str] = {}
    for name, refs in selections.items():
        state = runs[name]
        if state.artifact is not None:
            for ref in refs:
                found[str(ref)] = select(state.artifact, ref, state.run, state.record, fingerprints)
    return found
