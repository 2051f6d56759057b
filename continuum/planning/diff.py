"""Compare two experiments: which fields changed, which stages run again, and what that costs.

A side is a spec, its folder, or either of them as a Git revision has it.
"""

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from continuum.errors import UsageError
from continuum.loading.diagnostics import Diagnostic, SpecError, renamed
from continuum.loading.load import Loaded, load
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
from continuum.planning.folder_state import read_folder
from continuum.planning.plan import Action, Plan
from continuum.planning.planner import make_plan
from continuum.runs.folder import ExperimentFolder
from continuum.runs.git import GitError, run_git

SCHEMA = "continuum.diff/1"
Status = Literal["added", "removed", "again", "renamed", "reused", "same"]
"""`again`: the fingerprint changed; `reused`: only fields that do not affect the result changed."""
SUMMED = ("tokens", "flops", "disk_bytes")
DOES_WORK = ("added", "again")
CAUSES = ("input", "file", "selected")
LOCKED = ("pin", "metric", "artifact", "precision")
GIT_TIMEOUT_S = 60.0
SPEC_NAME = "experiment.yaml"
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python before 3.11.4 has no filters; the archive comes from the user's own repository."""
Diagnose = Callable[[Loaded, Plan], tuple[Diagnostic, ...]]
"""Finds what is wrong with a plan."""


@dataclass(frozen=True)
class Side:
    """One of the two experiments, with its plan."""

    label: str
    """As the user named it."""
    plan: Plan
    found: tuple[Diagnostic, ...]
    """Its errors and warnings."""


@contextmanager
def open_side(text: str, diagnose: Diagnose) -> Iterator[Side]:
    """Load and plan one side.

    Args:
        text: A spec, its folder, or `REV:PATH` with either of them; PATH is relative to the
            repository's root, or to the working directory if it begins with `./`.

    Raises:
        UsageError: there is no such file or revision.
        SpecError: the spec has errors.
    """
    revision, colon, path = text.partition(":")
    if Path(text).exists() or not colon or not revision:
        yield _side(text, Path(text), diagnose)
        return
    with tempfile.TemporaryDirectory(prefix="continuum-") as folder:
        tree = Path(folder).resolve() / "tree"
        inside = _extract(revision, path, tree)
        try:
            side = _side(text, inside, diagnose, is_earlier=True)
        except SpecError as error:
            # Name the file by its revision, not by its temporary path.
            raise error.renamed(f"{tree}/", f"{revision}:") from None
        yield replace(side, found=tuple(renamed(side.found, f"{tree}/", f"{revision}:")))


def _side(label: str, path: Path, diagnose: Diagnose, *, is_earlier: bool = False) -> Side:
    spec = path / SPEC_NAME if path.is_dir() else path
    if not spec.is_file():
        raise UsageError(
            f"{label}: no such experiment; give a spec, its folder, or REV:PATH of either"
        )
    loaded = load(spec, is_earlier=is_earlier)
    experiment = loaded.document().experiment
    folder = ExperimentFolder(spec.parent.resolve())
    plan = make_plan(experiment, read_folder(experiment, folder))
    return Side(label, plan, diagnose(loaded, plan))


@dataclass(frozen=True)
class StageDiff:
    """A stage on both sides."""

    name: str
    kind: str
    status: Status
    changes: tuple[Change, ...]
    """Fields that differ, of any role."""
    causes: tuple[Change, ...]
    """Local files and input stages that differ."""
    before: Mapping[str, int | float]
    """Known tokens, steps, FLOPs and bytes."""
    after: Mapping[str, int | float]
    parents: tuple[str, ...]
    was: str | None = None
    """Its name on the first side, if it was renamed."""
    has_run: bool = False
    """Whether the second side's folder has its complete run."""

    def as_json(self) -> dict[str, Any]:
        """The stage in the document."""
        return {
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "was": self.was,
            "has_run": self.has_run,
            "changes": [change.as_json() for change in self.changes],
            "causes": [cause.as_json() for cause in self.causes],
            "cost": {"before": dict(self.before), "after": dict(self.after)},
        }


@dataclass(frozen=True)
class LockChange:
    """A difference between the lockfiles."""

    stage: str
    """Empty for package versions of the experiment."""
    change: Change

    @property
    def what(self) -> str:
        """`version`, `pin`, `metric`, `artifact` or `precision`."""
        return "version" if self.change.what == "package" else self.change.what

    def as_json(self) -> dict[str, Any]:
        """The change in the document."""
        it = self.change
        values = {"name": it.name, "old": it.old, "new": it.new}
        return {"stage": self.stage, "what": self.what, **values}


@dataclass(frozen=True)
class Diff:
    """Differences between two experiments."""

    before: str
    after: str
    """The labels of the two sides."""
    experiment: tuple[Change, ...]
    """Fields outside the stages."""
    stages: tuple[StageDiff, ...]
    """Stages of the second side in their order, then those that were removed."""
    lock: tuple[LockChange, ...]
    problems: tuple[Diagnostic, ...] = ()
    """Errors and warnings of the second side that the first does not have."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.experiment or self.lock or any(s.status != "same" for s in self.stages))

    @property
    def work(self) -> list[StageDiff]:
        """Stages that must run for the second side after the first has run."""
        return [stage for stage in self.stages if stage.status in DOES_WORK]

    def work_cost(self) -> dict[str, int | float]:
        """Known costs of these stages, summed."""
        return sum_figures((stage.after for stage in self.work), SUMMED)

    def total_change(self) -> dict[str, int | float]:
        """How much more the second experiment costs in total; negative for less."""
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
    """Compare two sides."""
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
    """Problems of the second side with a code that the first does not have at the same field."""
    known = {(it.code, it.path) for it in before.found}
    for it in after.found:
        head, _, rest = it.path.removeprefix("stages.").partition(".")
        earlier = f"stages.{former.get(head, head)}" + (f".{rest}" if rest else "")
        if (it.code, earlier if it.path.startswith("stages.") else it.path) not in known:
            yield it


def _former_names(before: Plan, after: Plan) -> dict[str, str]:
    """The names of the second side's stages on the first side, by their new names.

    A stage with the same name and another fingerprint counts as changed, unless it was renamed.
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
    fields: tuple[Change, ...] = ()
    causes: tuple[Change, ...] = ()
    if old is None or new is None:
        status: Status = "removed" if new is None else "added"
    else:
        is_same = old.fingerprint == new.fingerprint
        sides = of_identity(old.identity), of_identity(new.identity)
        fields = tuple(changes(*sides, ("field",)))
        causes = () if is_same else tuple(changes(*sides, CAUSES))
        unchanged: Status = "reused" if fields else "same"
        status = "again" if not is_same else "renamed" if former != name else unchanged
    return StageDiff(
        name=either.name,
        kind=either.stage.kind,
        status=status,
        changes=fields,
        causes=causes,
        before=known_figures(old) if old is not None else {},
        after=known_figures(new) if new is not None else {},
        parents=tuple(dict.fromkeys(ref.stage for ref in either.refs)),
        was=former if status == "renamed" else None,
        has_run=new is not None and new.action is Action.REUSE,
    )


def _lock_changes(before: Plan, after: Plan, today: Mapping[str, str]) -> Iterator[LockChange]:
    """Differences between the lockfiles, and between the precisions that were used.

    Args:
        today: The names on the second side by those on the first.
    """
    lockfiles = (before.lockfile, after.lockfile)
    was, now = (of_values("package", it.versions if it is not None else {}) for it in lockfiles)
    yield from (LockChange("", change) for change in changes(was, now, ("package",)))
    old = {today.get(name, name): it for name, it in _locked(before).items()}
    new = _locked(after)
    for name in dict.fromkeys((*new, *old)):
        for change in changes(old.get(name, {}), new.get(name, {}), LOCKED):
            yield LockChange(name, change)


def _locked(plan: Plan) -> dict[str, Snapshot]:
    locked = plan.lockfile.stages if plan.lockfile is not None else {}
    found = {name: of_locked(entry) for name, entry in locked.items()}
    became = {p.name: of_values("precision", {"precision": p.run.precision()}) for p in plan}
    return found | {name: {**found.get(name, {}), **it} for name, it in became.items()}


def _extract(revision: str, path: str, tree: Path) -> Path:
    """Extract a revision into a new folder; returns the place of `path` in it.

    All files are needed: a spec may extend or read any of them.
    """
    here = Path.cwd()
    root = Path(_name(_git(here, "rev-parse", "--show-toplevel")))
    prefix = _name(_git(here, "rev-parse", "--show-prefix")) if path.startswith("./") else ""
    _git(here, "rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}", what=revision)
    archive = tree.with_suffix(".tar")
    _git(root, "archive", "--format=tar", f"--output={archive}", revision)
    with tarfile.open(archive) as tar:
        tar.extractall(tree, **SAFELY)
    archive.unlink()
    return tree / prefix / path


def _name(printed: bytes) -> str:
    return os.fsdecode(printed.removesuffix(b"\n"))


def _git(folder: Path, *arguments: str, what: str = "") -> bytes:
    try:
        return run_git(folder, *arguments, timeout_s=GIT_TIMEOUT_S)
    except GitError as error:
        command, _, reason = str(error).partition(": ")
        if reason.startswith("exit code"):  # from `rev-parse --quiet`
            reason = "no such revision"
        raise UsageError(f"{what or command}: {reason}") from None
