"""Check a run against `continuum.lock` before and after, and update the file from its records."""

from collections.abc import Container, Iterator

from continuum.errors import DecisionNeededError, NotReproducedError
from continuum.experiment.recipe import Recipe
from continuum.formatting import short_digest
from continuum.planning.changes import changes, of_locked, of_values
from continuum.planning.lockfile import METRIC_DIGITS, LockedStage, Lockfile, write_lockfile
from continuum.planning.plan import Plan, PlannedStage
from continuum.preflight.host import host_now
from continuum.preflight.placement import foreseen_placement
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.provenance import package_versions
from continuum.runs.redaction import masked


def update_lockfile(
    plan: Plan, settled: Container[str], *, reseals: bool = False
) -> Lockfile | None:
    """Write `continuum.lock` from the records of stages that are complete and up to date.

    The entries of other stages stay; those of stages that the spec no longer has go.

    Args:
        settled: The names of these stages.
        reseals: Whether to take the seals of these runs even if the lockfile has equal results
            of others. Otherwise the file does not change with every machine that runs the
            experiment.

    Returns:
        The lockfile; None if there is nothing to write.
    """
    lockfile = renew_lockfile(plan.lockfile, plan, settled, reseals=reseals)
    if lockfile is not None:
        write_lockfile(plan.folder.lockfile_path, lockfile)
    return lockfile


def renew_lockfile(
    old: Lockfile | None, plan: Plan, settled: Container[str], *, reseals: bool = False
) -> Lockfile | None:
    """The lockfile that `update_lockfile` writes."""
    entries = old.stages if old is not None else {}
    earlier = old.versions if old is not None else {}
    records = {p.name: p.run.record() for p in plan if p.name in settled}
    newest = max(records.values(), key=lambda record: record.made_at, default=None)
    versions = dict(newest.provenance.get("versions", {})) if newest is not None else earlier
    stages = {}
    for planned in plan:
        name, entry = planned.name, entries.get(planned.name)
        if name in records:
            made = _locked(planned, records[name].made_at)
            if entry is not None and entry.seal and not reseals and entry.has_results_of(made):
                made = made.model_copy(update={"seal": entry.seal, "made_at": entry.made_at})
            entry, own = made, records[name].provenance.get("versions", {})
        elif entry is not None:
            own = {**earlier, **entry.versions}
        else:
            continue
        differing = {k: v for k, v in own.items() if versions.get(k) != v}
        stages[name] = entry.model_copy(update={"versions": differing})
    if not stages:
        return None
    return Lockfile(experiment=plan.experiment.name, versions=versions, stages=stages)


def check_locked(plan: Plan) -> None:
    """Refuse a plan that deviates from the lockfile.

    Raises:
        DecisionNeededError: with every deviation.
    """
    path, lockfile = plan.folder.lockfile_path, plan.lockfile
    if lockfile is None:
        raise DecisionNeededError(
            f"{path}: no continuum.lock to compare with; "
            "run `continuum run` without --locked to create it"
        )
    deviations = [*_deviations(plan, lockfile)]
    if deviations:
        listed = "\n".join(f"  - {deviation}" for deviation in deviations)
        raise DecisionNeededError(
            f"nothing was started: the run deviates from {path.name}\n{listed}\n"
            "run without --locked to accept this and update the lockfile"
        )


def check_reproduced(plan: Plan) -> None:
    """Compare everything that is complete with the lockfile.

    Args:
        plan: The plan of the locked run.

    Raises:
        NotReproducedError: with every stage whose output differs.
    """
    assert plan.lockfile is not None, "a locked run has a lockfile"
    locked = plan.lockfile.stages
    others = [it for p in plan for it in _deviations_of(p, locked[p.name], has_ended=True)]
    if others:
        listed = "\n".join(f"  - {deviation}" for deviation in others)
        raise NotReproducedError(
            f"the run finished, but its output differs from continuum.lock:\n{listed}\n"
            "`continuum diff` compares pins and metrics; the lockfile was not changed"
        )


def find_outdated(plan: Plan) -> list[str]:
    """The lockfile entries that do not match the spec, on any machine.

    Empty if there is no lockfile: the first run writes it.
    """
    lockfile = plan.lockfile
    if lockfile is None:
        return []
    gone = sorted(lockfile.stages.keys() - plan.stages.keys())
    found = [f"{name}: not in the spec" for name in gone]
    for planned in plan:
        locked = lockfile.stages.get(planned.name)
        if locked is None:
            found.append(f"{planned.name}: not in the lockfile")
        elif locked.fingerprint not in planned.identity.known_by:
            found.append(f"{planned.name}: the spec or a local file has changed")
    return found


def _deviations(plan: Plan, lockfile: Lockfile) -> Iterator[str]:
    for override in plan.request.overrides:
        yield f"--set {masked(override)}: not allowed with --locked"
    for name in sorted(plan.request.rerun):
        yield f"--rerun {name}: not allowed with --locked"
    for planned in plan:
        locked = lockfile.stages.get(planned.name)
        if locked is None:
            yield f"{planned.name}: not in the lockfile"
        elif locked.artifact is None:
            yield f"{planned.name}: has not run since its pins were upgraded"
        else:
            yield from _deviations_of(planned, locked)
    for name in lockfile.stages.keys() - plan.stages.keys():
        yield f"{name}: in the lockfile but not in the spec"
    for name, version in package_versions().items():
        locked_version = lockfile.versions.get(name, version)
        if version != locked_version:
            yield f"{name} is version {version}, not {locked_version}"


def _deviations_of(
    planned: PlannedStage, locked: LockedStage, *, has_ended: bool = False
) -> Iterator[str]:
    """How a stage deviates: by its plan, and after the run by its output too."""
    is_known = locked.fingerprint in planned.identity.known_by
    fingerprint = locked.fingerprint if is_known else planned.fingerprint
    now = dict(of_values("fingerprint", {"": fingerprint}))
    if has_ended and planned.run.is_complete:
        now |= of_values("artifact", {"sha256": planned.run.artifact().digest})
    for change in changes(of_locked(locked), now, tuple(dict.fromkeys(what for what, _ in now))):
        words = f"{short_digest(change.new)}, not {short_digest(change.old)}"
        if change.what == "fingerprint":
            news = (str(reason) for reason in planned.reasons if reason.code == "new-version")
            words += f": {next(news, 'the spec or a local file has changed')}"
        yield f"{planned.name}: its {change.what} is {words}"
    precision = _precision(planned)
    if precision is not None and locked.precision not in (None, precision):
        yield f"{planned.name}: its precision is {precision} here, not {locked.precision}"


def _precision(planned: PlannedStage) -> str | None:
    """The precision that was used, or that will be used here; None if that is not certain."""
    used, host = planned.run.precision(), host_now()
    if used is None and isinstance(planned.recipe, Recipe):
        placement = foreseen_placement(planned.recipe, host)
        used = placement.precision if placement.on_cpu or host.device else None
    return used


def _locked(planned: PlannedStage, made_at: str) -> LockedStage:
    artifact = planned.run.artifact()
    metrics = artifact.metrics if isinstance(artifact, TrainingCheckpoint) else {}
    return LockedStage(
        fingerprint=planned.fingerprint,
        artifact=artifact.digest,
        seal=artifact.seal,
        made_at=made_at if artifact.seal else None,
        pins=dict(sorted(planned.stage.pins(artifact).items())),
        metrics={name: round(value, METRIC_DIGITS) for name, value in sorted(metrics.items())},
        precision=planned.run.precision(),
    )
