"""Hold a plan and its results against `continuum.lock`, and write the lock anew."""

from collections.abc import Container, Iterator

from continuum.errors import DecisionNeededError, NotReproducedError
from continuum.figures import short_digest
from continuum.lock import Finished, Lock, read_lock, renew_lock, write_lock
from continuum.plan import Plan, PlannedStage
from continuum.preflight.host import host_now
from continuum.provenance import package_versions
from continuum.reasons import NewVersion
from continuum.recipe import Recipe

ON_CPU, ON_CUDA = ("32-true",), ("bf16-mixed", "16-mixed")
"""What `precision: auto` becomes; on CUDA it hangs on the device."""


def update_lock(plan: Plan, settled: Container[str], *, reseals: bool = False) -> None:
    """Write `continuum.lock` from the stages that are settled; the others keep their entries.

    Args:
        settled: Names of the stages that are complete and up to date. An artifact that was to be
            made again, and was not reached, is neither.
        reseals: See `renew_lock`.
    """
    path = plan.folder.pins_path
    complete = (p for p in plan if p.name in settled)
    finished = [Finished(p.name, p.stage, p.fingerprint, p.run) for p in complete]
    name = plan.experiment.name
    before = read_lock(path)
    if before is not None:
        before = before.renamed({p.name: (p.fingerprint,) for p in plan})
    lock = renew_lock(before, name, list(plan.stages), finished, reseals=reseals)
    if lock is not None:
        write_lock(path, lock)


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
    others = [f"  - {told}" for planned in plan for told in _other_precision(planned, plan.lock)]
    for planned in plan:
        if not planned.run.is_complete:
            continue
        found = planned.run.artifact().digest
        wanted = plan.lock.stages[planned.name].artifact or ""
        if found != wanted:
            others.append(
                f"  - {planned.name}: its artifact is {short_digest(found)}, "
                f"not {short_digest(wanted)}"
            )
    if others:
        raise NotReproducedError(
            "the run has ended, but not with the bytes of continuum.lock:\n"
            + "\n".join(others)
            + "\n`continuum diff` shows pins and metrics side by side; the lock was left as it is"
        )


def _why_another(planned: PlannedStage) -> str:
    news = [str(reason) for reason in planned.reasons if isinstance(reason, NewVersion)]
    return news[0] if news else "the spec or a local file was changed"


def _other_precision(planned: PlannedStage, lock: Lock | None) -> Iterator[str]:
    """That `precision: auto` became, or will become here, another one than was locked."""
    locked = lock.stages.get(planned.name) if lock is not None else None
    recipe = planned.recipe
    if locked is None or locked.precision is None or not isinstance(recipe, Recipe):
        return
    became = planned.run.precision()
    if became is None and recipe.precision == "auto":
        on_cuda = recipe.runtime.accelerator != "cpu" and host_now().has_cuda_device
        may_be = ON_CUDA if on_cuda else ON_CPU
        became = may_be[0] if locked.precision not in may_be else None
    if became not in (None, locked.precision):
        yield f"{planned.name}: its precision is {became} here, not {locked.precision}"


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
        elif locked.fingerprint not in (planned.fingerprint, planned.earlier):
            yield (
                f"{planned.name}: its fingerprint is {short_digest(planned.fingerprint)}, not "
                f"{short_digest(locked.fingerprint)}: {_why_another(planned)}"
            )
        else:
            yield from _other_precision(planned, lock)
    for name in lock.stages.keys() - plan.stages.keys():
        yield f"{name}: is in the lock and not in the spec"
    for package, version in package_versions().items():
        wanted = lock.versions.get(package, version)
        if wanted != version:
            yield f"{package} is of version {version}, not {wanted}"
