"""Compare two plans: which fields changed, what must run again for it, and what that takes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from continuum.costs import KEPT
from continuum.diff.sides import Side
from continuum.fields import field_values
from continuum.fingerprint import ABSENT
from continuum.history import explain_identities, explain_inputs, told_apart
from continuum.lock import Lock
from continuum.plan import Plan, PlannedStage
from continuum.reasons import (
    FieldChanged,
    Reason,
    changed_fields,
)

SCHEMA = "continuum.diff/1"
Status = Literal["added", "removed", "again", "renamed", "reused", "same"]
"""`again`: the same stage with another identity; `reused`: changed only in how it is done."""
SUMMED = ("tokens", "flops", "disk_bytes")
DOES_WORK = ("added", "again")


@dataclass(frozen=True)
class StageDiff:
    """One stage on both sides."""

    name: str
    kind: str
    status: Status
    changes: tuple[FieldChanged, ...]
    """Every field that differs, whatever its role."""
    causes: tuple[Reason, ...]
    """Local files and stages above it that differ."""
    before: Mapping[str, int | float]
    """Tokens, steps, FLOPs, bytes: what is known."""
    after: Mapping[str, int | float]
    parents: tuple[str, ...]
    was: str | None = None
    """Its name on the first side, where that was another one."""

    def as_json(self) -> dict[str, Any]:
        """The stage's part of the document."""
        return {
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "was": self.was,
            "changes": [change.as_json() for change in self.changes],
            "causes": [cause.as_json() for cause in self.causes],
            "cost": {"before": dict(self.before), "after": dict(self.after)},
        }


@dataclass(frozen=True)
class LockChange:
    """Something in `continuum.lock` that differs."""

    stage: str
    """Empty for the versions of the whole experiment."""
    what: Literal["version", "pin", "metric", "precision", "artifact"]
    name: str
    old: str | float | None
    new: str | float | None


@dataclass(frozen=True)
class Diff:
    """All that differs between two experiments."""

    before: str
    after: str
    """The sides, as the user named them."""
    experiment: tuple[FieldChanged, ...]
    """Fields outside the stages."""
    stages: tuple[StageDiff, ...]
    """Those of the second side in their order, then those that are gone."""
    lock: tuple[LockChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs at all."""
        return not (self.experiment or self.lock or any(s.status != "same" for s in self.stages))

    @property
    def work(self) -> list[StageDiff]:
        """The stages that must run for the second side when the first was run."""
        return [stage for stage in self.stages if stage.status in DOES_WORK]

    def work_cost(self) -> dict[str, int | float]:
        """Sums over those stages, of what is known."""
        return _sum(stage.after for stage in self.work)

    def total_change(self) -> dict[str, int | float]:
        """What the whole second experiment takes more than the first; negative for less."""
        changed = [stage for stage in self.stages if stage.status != "same"]
        before = _sum(stage.before for stage in changed)
        after = _sum(stage.after for stage in changed)
        return {
            name: after.get(name, 0) - before.get(name, 0)
            for name in SUMMED
            if name in before or name in after
        }

    def as_json(self) -> dict[str, Any]:
        """The versioned document."""
        return {
            "schema": SCHEMA,
            "from": self.before,
            "to": self.after,
            "is_empty": self.is_empty,
            "experiment": [change.as_json() for change in self.experiment],
            "stages": [stage.as_json() for stage in self.stages],
            "run_again": [stage.name for stage in self.work],
            "work": self.work_cost(),
            "total_change": self.total_change(),
            "lock": [asdict(change) for change in self.lock],
        }


def compare(before: Side, after: Side) -> Diff:
    """What changes from one side to the other."""
    old, new = before.plan, after.plan
    names = _former_names(old, new)
    stages = [_stage_diff(old, names.get(p.name), new, p.name) for p in new]
    gone = [p.name for p in old if p.name not in names.values()]
    return Diff(
        before=before.label,
        after=after.label,
        experiment=tuple(
            change
            for change in changed_fields(old.experiment, new.experiment)
            if not change.path.startswith("stages.")
        ),
        stages=(*stages, *(_stage_diff(old, name, new, None) for name in gone)),
        lock=(
            *_lock_changes(old.lock, new.lock, names),
            *_precision_changes(old, new, names),
        ),
    )


def _former_names(before: Plan, after: Plan) -> dict[str, str]:
    """What the stages of the second side are called on the first, by what they are called now.

    One that is there with another fingerprint is the same stage, changed, unless a stage of
    another name is what it was.
    """
    found = {p.name: p.name for p in after if _fingerprint(before, p.name) == p.fingerprint}
    free = {p.fingerprint: p.name for p in before if p.name not in found}
    for planned in after:
        if planned.name not in found and planned.fingerprint in free:
            found[planned.name] = free.pop(planned.fingerprint)
    taken = set(found.values())
    changed = {p.name: p.name for p in after if p.name not in found and p.name in before.stages}
    return found | {name: former for name, former in changed.items() if former not in taken}


def _fingerprint(plan: Plan, name: str) -> str | None:
    return plan.stages[name].fingerprint if name in plan.stages else None


def _stage_diff(before: Plan, former: str | None, after: Plan, name: str | None) -> StageDiff:
    old = before.stages[former] if former is not None else None
    new = after.stages[name] if name is not None else None
    either = new or old
    assert either is not None, "a stage is on one side at least"
    changes: tuple[FieldChanged, ...] = ()
    causes: tuple[Reason, ...] = ()
    if old is None or new is None:
        status: Status = "removed" if new is None else "added"
    else:
        changes = tuple(_field_changes(old, new))
        is_same = old.fingerprint == new.fingerprint
        if not is_same:
            causes = (
                *explain_inputs(_inputs(before, old), _inputs(after, new)),
                *explain_identities(old.identity, new.identity, with_stage=False),
            )
        unchanged: Status = "reused" if changes else "same"
        status = "again" if not is_same else "renamed" if former != name else unchanged
    return StageDiff(
        name=either.name,
        kind=either.stage.kind,
        status=status,
        changes=changes,
        causes=causes,
        before=_figures(old),
        after=_figures(new),
        parents=tuple(dict.fromkeys(ref.stage for ref in either.refs)),
        was=former if status == "renamed" else None,
    )


def _inputs(plan: Plan, planned: PlannedStage) -> dict[str, tuple[str, ...]]:
    return {str(ref): (plan.stages[ref.stage].fingerprint,) for ref in planned.refs}


def _field_changes(old: PlannedStage, new: PlannedStage) -> Iterator[FieldChanged]:
    if type(old.stage) is type(new.stage):
        yield from told_apart(changed_fields(old.stage, new.stage), old.identity, new.identity)
        return
    yield FieldChanged("kind", old.stage.kind, new.stage.kind, "identity")
    for item in field_values(new.stage):
        if item.path != "kind":
            yield FieldChanged(item.path, ABSENT, item.value, item.role)


def _figures(planned: PlannedStage | None) -> dict[str, int | float]:
    if planned is None:
        return {}
    facts = planned.forecast.facts
    return {k: v for k, v in facts.items() if k in KEPT and isinstance(v, (int, float))}


def _sum(figures: Iterable[Mapping[str, int | float]]) -> dict[str, int | float]:
    sums: dict[str, int | float] = {}
    for each in figures:
        for name in SUMMED:
            if name in each:
                sums[name] = sums.get(name, 0) + each[name]
    return sums


def _lock_changes(
    old: Lock | None, new: Lock | None, former: Mapping[str, str]
) -> Iterator[LockChange]:
    before, after = (dict(lock.stages) if lock is not None else {} for lock in (old, new))
    today = {was: name for name, was in former.items()}
    before = {today.get(name, name): entry for name, entry in before.items()}
    versions = (lock.versions if lock is not None else {} for lock in (old, new))
    yield from _changes("", "version", *versions)
    for name in dict.fromkeys((*after, *before)):
        was, now = before.get(name), after.get(name)
        yield from _changes(name, "pin", was.pins if was else {}, now.pins if now else {})
        yield from _changes(name, "metric", was.metrics if was else {}, now.metrics if now else {})
        digests = ({"sha256": entry.artifact} if entry else {} for entry in (was, now))
        yield from _changes(name, "artifact", *digests)


def _precision_changes(
    before: Plan, after: Plan, former: Mapping[str, str]
) -> Iterator[LockChange]:
    """What `precision` became on each side, by its runs or else by its lock, where both know."""
    for name, was in former.items():
        old, new = _precision(before, was), _precision(after, name)
        if old is not None and new is not None:
            yield from _changes(name, "precision", {"precision": old}, {"precision": new})


def _precision(plan: Plan, name: str) -> str | None:
    locked = plan.lock.stages.get(name) if plan.lock is not None else None
    return plan.stages[name].run.precision() or (locked.precision if locked is not None else None)


def _changes(
    stage: str,
    what: Literal["version", "pin", "metric", "precision", "artifact"],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> Iterator[LockChange]:
    for name in dict.fromkeys((*new, *old)):
        if old.get(name) != new.get(name):
            yield LockChange(stage, what, name, old.get(name), new.get(name))
