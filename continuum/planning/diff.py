"""Compare two plans: which fields changed, what must run again for it, and what that takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from continuum.loading.diagnostics import Diagnostic
from continuum.planning.changes import (
    Change,
    Snapshot,
    changes,
    of_fields,
    of_identity,
    of_locked,
    of_values,
)
from continuum.planning.costs import known_figures, sum_figures
from continuum.planning.diff_sides import Side
from continuum.planning.plan import Plan

SCHEMA = "continuum.diff/1"
Status = Literal["added", "removed", "again", "renamed", "reused", "same"]
"""`again`: the same stage with another identity; `reused`: changed only in how it is done."""
SUMMED = ("tokens", "flops", "disk_bytes")
DOES_WORK = ("added", "again")
CAUSES = ("input", "file", "selected")
LOCKED = ("pin", "metric", "artifact", "precision")


@dataclass(frozen=True)
class StageDiff:
    """One stage on both sides."""

    name: str
    kind: str
    status: Status
    changes: tuple[Change, ...]
    """Every field that differs, whatever its role."""
    causes: tuple[Change, ...]
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
    change: Change

    @property
    def what(self) -> str:
        """`version`, `pin`, `metric`, `artifact` or `precision`."""
        return "version" if self.change.what == "package" else self.change.what

    def as_json(self) -> dict[str, Any]:
        """The change's part of the document."""
        it = self.change
        values = {"name": it.name, "old": it.old, "new": it.new}
        return {"stage": self.stage, "what": self.what, **values}


@dataclass(frozen=True)
class Diff:
    """All that differs between two experiments."""

    before: str
    after: str
    """The sides, as the user named them."""
    experiment: tuple[Change, ...]
    """Fields outside the stages."""
    stages: tuple[StageDiff, ...]
    """Those of the second side in their order, then those that are gone."""
    lock: tuple[LockChange, ...]
    problems: tuple[Diagnostic, ...] = ()
    """What is wrong with the second side, or unwise in it, and was not so with the first."""

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
        return sum_figures((stage.after for stage in self.work), SUMMED)

    def total_change(self) -> dict[str, int | float]:
        """What the whole second experiment takes more than the first; negative for less."""
        changed = [stage for stage in self.stages if stage.status != "same"]
        before = sum_figures((stage.before for stage in changed), SUMMED)
        after = sum_figures((stage.after for stage in changed), SUMMED)
        known = (name for name in SUMMED if name in before or name in after)
        return {name: after.get(name, 0) - before.get(name, 0) for name in known}

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
            "lock": [change.as_json() for change in self.lock],
            "problems": [problem.as_json() for problem in self.problems],
        }


def compare(before: Side, after: Side) -> Diff:
    """What changes from one side to the other."""
    old, new = before.plan, after.plan
    names = _former_names(old, new)
    stages = [_stage_diff(old, names.get(p.name), new, p.name) for p in new]
    gone = [p.name for p in old if p.name not in names.values()]
    head, new_head = (of_fields(p.experiment.model_copy(update={"stages": {}})) for p in (old, new))
    return Diff(
        before=before.label,
        after=after.label,
        experiment=tuple(changes(head, new_head, ("field",))),
        stages=(*stages, *(_stage_diff(old, name, new, None) for name in gone)),
        lock=tuple(_lock_changes(old, new, {was: name for name, was in names.items()})),
        problems=tuple(_new_problems(before, after, names)),
    )


def _new_problems(before: Side, after: Side, former: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Those of the second side whose code the first does not have at the same field."""
    known = {(it.code, it.path) for it in before.found}
    for it in after.found:
        head, _, rest = it.path.removeprefix("stages.").partition(".")
        earlier = f"stages.{former.get(head, head)}" + (f".{rest}" if rest else "")
        if (it.code, earlier if it.path.startswith("stages.") else it.path) not in known:
            yield it


def _former_names(before: Plan, after: Plan) -> dict[str, str]:
    """What the stages of the second side are called on the first, by what they are called now.

    One that is there with another fingerprint is the same stage, changed, unless a stage of
    another name is what it was.
    """
    old = {p.name: p.fingerprint for p in before}
    found = {p.name: p.name for p in after if old.get(p.name) == p.fingerprint}
    free = {p.fingerprint: p.name for p in before if p.name not in found}
    for planned in after:
        if planned.name not in found and planned.fingerprint in free:
            found[planned.name] = free.pop(planned.fingerprint)
    taken = set(found.values())
    changed = {p.name: p.name for p in after if p.name not in found and p.name in old}
    return found | {name: former for name, former in changed.items() if former not in taken}


def _stage_diff(before: Plan, former: str | None, after: Plan, name: str | None) -> StageDiff:
    old = before.stages[former] if former is not None else None
    new = after.stages[name] if name is not None else None
    either = new or old
    assert either is not None, "a stage is on one side at least"
    told: tuple[Change, ...] = ()
    causes: tuple[Change, ...] = ()
    if old is None or new is None:
        status: Status = "removed" if new is None else "added"
    else:
        is_same = old.fingerprint == new.fingerprint
        sides = of_identity(old.identity), of_identity(new.identity)
        told = tuple(changes(*sides, ("field",)))
        causes = () if is_same else tuple(changes(*sides, CAUSES))
        unchanged: Status = "reused" if told else "same"
        status = "again" if not is_same else "renamed" if former != name else unchanged
    return StageDiff(
        name=either.name,
        kind=either.stage.kind,
        status=status,
        changes=told,
        causes=causes,
        before=known_figures(old) if old is not None else {},
        after=known_figures(new) if new is not None else {},
        parents=tuple(dict.fromkeys(ref.stage for ref in either.refs)),
        was=former if status == "renamed" else None,
    )


def _lock_changes(before: Plan, after: Plan, today: Mapping[str, str]) -> Iterator[LockChange]:
    """What the locks say otherwise, and what `precision` became by the runs or else by the lock.

    Args:
        today: The names on the second side by those on the first.
    """
    locks = (plan.lock.versions if plan.lock is not None else {} for plan in (before, after))
    was, now = (of_values("package", versions) for versions in locks)
    yield from (LockChange("", change) for change in changes(was, now, ("package",)))
    old = {today.get(name, name): it for name, it in _locked(before).items()}
    new = _locked(after)
    for name in dict.fromkeys((*new, *old)):
        for change in changes(old.get(name, {}), new.get(name, {}), LOCKED):
            yield LockChange(name, change)


def _locked(plan: Plan) -> dict[str, Snapshot]:
    locked = plan.lock.stages if plan.lock is not None else {}
    found = {name: of_locked(entry) for name, entry in locked.items()}
    became = {p.name: of_values("precision", {"precision": p.run.precision()}) for p in plan}
    return found | {name: {**found.get(name, {}), **it} for name, it in became.items()}
