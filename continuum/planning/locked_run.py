"""Hold a plan and its results against `continuum.lock`, and write the lock anew."""

from collections.abc import Container, Iterator

from continuum.errors import DecisionNeededError, NotReproducedError
from continuum.experiment.recipe import Recipe
from continuum.formatting import short_digest
from continuum.planning.changes import changes, of_locked, of_values
from continuum.planning.lockfile import METRIC_DIGITS, Lock, LockedStage, read_lock, write_lock
from continuum.planning.plan import Plan, PlannedStage
from continuum.preflight.host import host_now
from continuum.preflight.placement import foreseen_placement
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.provenance import package_versions


def update_lock(plan: Plan, settled: Container[str], *, reseals: bool = False) -> None:
    """Write `continuum.lock` from the stages that are settled; the others keep their entries.

    Args:
        settled: Names of the stages that are complete and up to date. An artifact that was to be
            made again, and was not reached, is neither.
        reseals: See `renew_lock`.
    """
    path = plan.folder.pins_path
    before = read_lock(path)
    if before is not None:
        before = before.renamed({p.name: (p.fingerprint,) for p in plan})
    lock = renew_lock(before, plan, settled, reseals=reseals)
    if lock is not None:
        write_lock(path, lock)


def renew_lock(
    old: Lock | None, plan: Plan, settled: Container[str], *, reseals: bool = False
) -> Lock | None:
    """The lock after a run: entries of what is finished, earlier ones of what is not.

    Args:
        settled: Names of the stages that are finished. Those that the spec has no more are dropped.
        reseals: True takes the seals of these runs even where others came to the same results:
            the file would else change with every machine that the experiment runs on.

    Returns:
        None when there is nothing to lock.
    """
    before = old.stages if old is not None else {}
    earlier = old.versions if old is not None else {}
    records = {p.name: p.run.record() for p in plan if p.name in settled}
    newest = max(records.values(), key=lambda record: record.made_at, default=None)
    versions = dict(newest.provenance.get("versions", {})) if newest is not None else earlier
    stages = {}
    for planned in plan:
        name, entry = planned.name, before.get(planned.name)
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
    return (
        Lock(experiment=plan.experiment.name, versions=versions, stages=stages) if stages else None
    )


def check_locked(plan: Plan) -> None:
    """Refuse a plan that deviates from the lock.

    Raises:
        DecisionNeededError: with every deviation.
    """
    lock = plan.lock
    if lock is None:
        raise DecisionNeededError(
            f"{plan.folder.pins_path}: there is no lock to hold the run against; "
            "make one by a `continuum run` without --locked"
        )
    deviations = [*_deviations(plan, lock)]
    if deviations:
        listed = "\n".join(f"  - {deviation}" for deviation in deviations)
        raise DecisionNeededError(
            f"nothing was started: the run deviates from {plan.folder.pins_path.name}\n{listed}\n"
            "run without --locked to accept it and to write the lock anew"
        )


def check_reproduced(plan: Plan) -> None:
    """See that everything complete has the bytes that the lock says.

    Args:
        plan: As it was before the run, with the lock of that time.

    Raises:
        NotReproducedError: with every stage that came out otherwise.
    """
    assert plan.lock is not None, "a locked run has a lock"
    locked = plan.lock.stages
    others = [told for p in plan for told in _deviations_of(p, locked[p.name], has_ended=True)]
    if others:
        listed = "\n".join(f"  - {deviation}" for deviation in others)
        raise NotReproducedError(
            f"the run has ended, but not with the bytes of continuum.lock:\n{listed}\n"
            "`continuum diff` shows pins and metrics side by side; the lock was left as it is"
        )


def find_outdated(plan: Plan) -> list[str]:
    """What of the lock does not fit the spec as it stands, whatever machine reads it.

    Empty where there is no lock: the first run writes it.
    """
    lock = plan.lock
    if lock is None:
        return []
    found = [f"{name}: not in the spec" for name in sorted(lock.stages.keys() - plan.stages.keys())]
    for planned in plan:
        locked = lock.stages.get(planned.name)
        if locked is None:
            found.append(f"{planned.name}: not in the lock")
        elif locked.fingerprint not in planned.identity.known_by:
            found.append(f"{planned.name}: the spec or a local file was changed")
    return found


def _deviations(plan: Plan, lock: Lock) -> Iterator[str]:
    for override in plan.request.overrides:
        yield f"--set {override}: a locked run takes no overrides"
    for name in sorted(plan.request.rerun):
        yield f"--rerun {name}: a locked run makes nothing again"
    for planned in plan:
        locked = lock.stages.get(planned.name)
        if locked is None:
            yield f"{planned.name}: is not in the lock"
        elif locked.artifact is None:
            yield f"{planned.name}: its pins were upgraded and it was not run since"
        else:
            yield from _deviations_of(planned, locked)
    for name in lock.stages.keys() - plan.stages.keys():
        yield f"{name}: is in the lock and not in the spec"
    known = {name: lock.versions[name] for name in package_versions() if name in lock.versions}
    now = {name: version for name, version in package_versions().items() if name in known}
    sides = of_values("package", known), of_values("package", now)
    for change in changes(*sides, ("package",)):
        yield f"{change.name} is of version {change.new}, not {change.old}"


def _deviations_of(
    planned: PlannedStage, locked: LockedStage, *, has_ended: bool = False
) -> Iterator[str]:
    """What is not as it was locked: of the work to do, and after it of what was made."""
    is_known = locked.fingerprint in planned.identity.known_by
    now = {
        **of_values("fingerprint", {"": locked.fingerprint if is_known else planned.fingerprint}),
        **of_values("precision", {"precision": _precision(planned)}),
    }
    what: tuple[str, ...] = ("fingerprint", "precision")
    if has_ended and planned.run.is_complete:
        now |= of_values("artifact", {"sha256": planned.run.artifact().digest})
        what += ("artifact",)
    for change in changes(of_locked(locked), now, what):
        words = f"{short_digest(change.new)}, not {short_digest(change.old)}"
        if change.what == "precision":
            words = f"{change.new} here, not {change.old}"
        elif change.what == "fingerprint":
            news = (str(reason) for reason in planned.reasons if reason.code == "new-version")
            words += f": {next(news, 'the spec or a local file was changed')}"
        yield f"{planned.name}: its {change.what} is {words}"


def _precision(planned: PlannedStage) -> str | None:
    """What `precision` became, or will become here as far as that is sure."""
    became, host = planned.run.precision(), host_now()
    if became is None and isinstance(planned.recipe, Recipe):
        placement = foreseen_placement(planned.recipe, host)
        became = placement.precision if placement.on_cpu or host.device else None
    return became


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
