"""All runs of an experiment folder: their state, what needs them, and which may be removed.

A run is needed by the current spec, by a lockfile, or because a needed run was made from it.
Removing a run keeps its part of the lineage; see `lineage/removed.py`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from continuum.errors import IntegrityError, UsageError
from continuum.planning.changes import explain
from continuum.planning.lockfile import Lockfile
from continuum.planning.plan import Action, Plan, PlannedStage
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.attempts import AttemptState, Owner
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord
from continuum.suggestions import did_you_mean


@dataclass(frozen=True)
class RunInfo:
    """A run folder and its state."""

    run: StageRun
    stage: str
    """The stage's name in the spec, or else the name it ran under."""
    state: str
    """`complete`, `damaged`, `running`, `interrupted`, or how its last attempt ended."""
    how: str
    """The process that runs it, or the first line of the error; else empty."""
    made_at: str
    """Start of its last attempt, ISO 8601 in UTC; empty if its record cannot be read."""
    size_bytes: int
    """Size of its files; hard links count once."""
    metrics: Mapping[str, float]
    """Final losses of a complete training."""
    summary: str
    """Description of the output of a complete run."""
    is_current: bool
    """Whether the run belongs to the current spec."""
    differences: tuple[str, ...]
    """Differences from the spec's stage with this name, or that there is none."""
    used_by: tuple[str, ...]
    """The runs that were made from it."""
    needed: str | None
    """Why it is kept: `spec`, `lock`, `--keep`, `running`, `unreadable`, `input of RUN` or `proof
    of RUN`; None for a run that may be removed."""

    @property
    def age_s(self) -> float | None:
        """Seconds since its last attempt began; None if unknown."""
        with suppress(ValueError):
            begun = datetime.fromisoformat(self.made_at)
            return (datetime.now(UTC) - begun).total_seconds()
        return None


def list_runs(
    plan: Plan, lockfiles: Iterable[Lockfile] = (), keep: Collection[str] = ()
) -> tuple[RunInfo, ...]:
    """Every run of the plan's folder, by stage and then oldest first.

    Args:
        lockfiles: Further lockfiles whose runs are needed.
        keep: Further runs that are needed, or stages with all their runs.

    Raises:
        UsageError: `keep` has a name that is not a run or a stage of the folder.
    """
    runs = {run.name: run for run in plan.folder.runs()}
    records = {name: _record_of(run) for name, run in runs.items()}
    stages = {planned.run.name: planned for planned in plan}
    own = () if plan.lockfile is None else (plan.lockfile,)
    needed = _needed(plan, runs, records, (*own, *lockfiles), keep)
    used_by: dict[str, list[str]] = {}
    for name, record in records.items():
        for used in record.inputs if record is not None else ():
            used_by.setdefault(used.run, []).append(name)
    found = [
        _info(
            run,
            records[name],
            stages.get(name),
            plan,
            used_by=tuple(sorted(used_by.get(name, ()))),
            needed=needed.get(name),
        )
        for name, run in runs.items()
    ]
    return tuple(sorted(found, key=lambda it: (it.stage, it.made_at, it.run.name)))


def newest_other_runs(plan: Plan, limit: int) -> tuple[list[RunInfo], int]:
    """The newest runs that the spec does not lead to, and how many there are.

    Args:
        limit: How many to describe; what needs them is left out.
    """
    own = {planned.run.name for planned in plan}
    others = [run for run in plan.folder.runs() if run.name not in own]
    others.sort(key=StageRun.begun_at, reverse=True)
    found = [
        _info(run, _record_of(run), None, plan, used_by=(), needed=None) for run in others[:limit]
    ]
    return found, len(others)


@dataclass(frozen=True)
class PruneRule:
    """Which of the unneeded runs to remove; all of them without a limit."""

    older_than_s: float | None = None
    keep_last: int = 0
    """Number of unneeded runs to keep of each stage, the newest ones."""
    max_size_bytes: int | None = None
    """Stop removing when all runs of the folder together are no larger."""


def choose_removable(runs: Sequence[RunInfo], rule: PruneRule) -> list[RunInfo]:
    """The runs to remove, oldest first."""
    unneeded = sorted(
        (it for it in runs if it.needed is None), key=lambda it: (it.made_at, it.run.name)
    )
    spared: set[str] = set()
    for stage in {it.stage for it in unneeded} if rule.keep_last else ():
        of_stage = [it.run.name for it in unneeded if it.stage == stage]
        spared.update(of_stage[-rule.keep_last :])
    size = sum(it.size_bytes for it in runs)
    chosen: list[RunInfo] = []
    for it in unneeded:
        if rule.max_size_bytes is not None and size <= rule.max_size_bytes:
            break
        is_young = rule.older_than_s is not None and (it.age_s or 0.0) < rule.older_than_s
        if it.run.name in spared or is_young:
            continue
        chosen.append(it)
        size -= it.size_bytes
    return chosen


def _needed(
    plan: Plan,
    runs: Mapping[str, StageRun],
    records: Mapping[str, StageRecord | None],
    lockfiles: Collection[Lockfile],
    keep: Collection[str],
) -> dict[str, str]:
    """Why each needed run is needed, by its name."""
    found = {planned.run.name: "spec" for planned in plan if planned.run.name in runs}
    locked = {entry.fingerprint for it in lockfiles for entry in it.stages.values()}
    for name, record in records.items():
        if record is not None and record.fingerprint in locked:
            found.setdefault(name, "lock")
        if runs[name].is_running:
            found.setdefault(name, "running")
        if record is None:  # perhaps not ours
            found.setdefault(name, "unreadable")
    for word in keep:
        named = [name for name, run in runs.items() if word in (name, run.stage_name)]
        if not named:
            known = [*runs, *(run.stage_name for run in runs.values())]
            raise UsageError(f"--keep {word}: no such run or stage{did_you_mean(word, known)}")
        for name in named:
            found.setdefault(name, "--keep")
    _add_inputs(found, records, found)
    # A run whose seal only a run made from it has is proved by that run alone.
    sealed = {entry.seal for it in lockfiles for entry in it.stages.values()}
    proofs = _proofs(runs, records, found, sealed)
    found |= proofs
    _add_inputs(found, records, proofs)
    return found


def _add_inputs(
    found: dict[str, str], records: Mapping[str, StageRecord | None], start: Iterable[str]
) -> None:
    """Add all ancestors of these runs."""
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        record = records.get(name)
        for used in record.inputs if record is not None else ():
            if used.run in records and used.run not in found:
                found[used.run] = f"input of {name}"
                waiting.append(used.run)


def _proofs(
    runs: Mapping[str, StageRun],
    records: Mapping[str, StageRecord | None],
    kept: Collection[str],
    sealed: Collection[str | None],
) -> dict[str, str]:
    """The newest run that proves the seal of a kept run, if no kept run does."""
    found: dict[str, str] = {}
    for name in kept:
        seal = _seal_of(runs[name])
        if seal is None or seal in sealed:
            continue
        proving = [
            other
            for other, record in records.items()
            if record is not None and any(it.seal == seal for it in record.inputs)
        ]
        if proving and not any(other in kept or other in found for other in proving):
            newest = max(proving, key=lambda other: (runs[other].begun_at(), other))
            found[newest] = f"proof of {name}"
    return found


def _seal_of(run: StageRun) -> str | None:
    try:
        return run.artifact().seal if run.is_complete else None
    except IntegrityError:
        return None


def _record_of(run: StageRun) -> StageRecord | None:
    try:
        return run.record()
    except IntegrityError:
        return None


def _info(
    run: StageRun,
    record: StageRecord | None,
    planned: PlannedStage | None,
    plan: Plan,
    *,
    used_by: tuple[str, ...],
    needed: str | None,
) -> RunInfo:
    metrics: Mapping[str, float] = {}
    summary = ""
    attempt = _state_of(run, record, plan.state.owner)
    if attempt.state == "complete":
        artifact = run.artifact()
        summary = artifact.summary()
        metrics = artifact.metrics if isinstance(artifact, TrainingCheckpoint) else {}
    return RunInfo(
        run=run,
        stage=planned.name if planned is not None else run.stage_name,
        state=attempt.state,
        how=attempt.how,
        made_at=record.made_at if record is not None else "",
        size_bytes=run.size_bytes(),
        metrics=metrics,
        summary=summary,
        is_current=planned is not None,
        differences=() if planned is not None else tuple(_differences(run, record, plan)),
        used_by=used_by,
        needed=needed,
    )


def _state_of(run: StageRun, record: StageRecord | None, owner: Owner | None) -> AttemptState:
    if record is None:
        return AttemptState("damaged")
    try:
        if not run.is_complete:
            return run.attempt_state(owner)
        run.artifact()
    except IntegrityError:
        return AttemptState("damaged")
    return AttemptState("complete")


def _differences(run: StageRun, record: StageRecord | None, plan: Plan) -> Iterator[str]:
    planned = plan.stages.get(run.stage_name)
    if planned is None:
        yield f"the spec has no stage {run.stage_name!r}"
    elif record is not None:
        if record.fingerprint == planned.fingerprint and planned.action is Action.REUSE:
            yield f"the same as runs/{planned.run.name}"
            return
        yield from map(str, explain(record, planned.identity))
