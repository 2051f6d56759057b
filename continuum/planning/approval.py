"""Refuse a plan before anything starts: for its problems, a saved plan, or `continuum.lock`.

Two experiments in one folder are refused too: they would overwrite each other's records.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from continuum.errors import PreflightError
from continuum.loading.diagnostics import in_order, render
from continuum.loading.load import Loaded
from continuum.planning.locked_run import check_locked
from continuum.planning.plan import Plan
from continuum.planning.plan_file import SavedPlan

SUFFIXES = frozenset({".yaml", ".yml"})
MAX_BYTES = 1 << 20
_FORMAT = re.compile(r"^continuum\s*:", re.M)
_NAME = re.compile(r"""^name\s*:\s*["']?([A-Za-z0-9._-]+)["']?\s*(?:#.*)?$""", re.M)


def approve(
    plan: Plan, loaded: Loaded, files: Collection[Path], saved: SavedPlan | None = None
) -> None:
    """Let a run start.

    Args:
        loaded: The experiment with the places of its fields.
        files: The spec and its bases.
        saved: The plan that `--plan` names.

    Raises:
        PreflightError: the plan has problems, or the folder belongs to another experiment.
        DecisionNeededError: the plan differs from the saved one or from `continuum.lock`.
    """
    refuse_second_spec(plan, files)
    check_problems(plan, loaded, "nothing was started")
    if saved is not None:
        saved.check(plan)
    if plan.request.locked:
        check_locked(plan)


def check_problems(
    plan: Plan, loaded: Loaded, consequence: str, *, on_this_machine: bool = True
) -> None:
    """Report every problem of a plan with its line.

    Args:
        consequence: What the problems mean for the command.
        on_this_machine: Whether to count problems that another machine may not have.

    Raises:
        PreflightError: there are problems.
    """
    found = [it for it in plan.problems if on_this_machine or it.needs != "machine"]
    if found:
        raise PreflightError(f"{consequence}\n{render(in_order(loaded.place(found)))}")


def refuse_second_spec(plan: Plan, files: Collection[Path]) -> None:
    """Refuse an experiment whose folder has another spec with its name or with its lockfile.

    An experiment that was renamed is accepted: no other file has its former name.

    Args:
        files: The spec and its bases.

    Raises:
        PreflightError: with the other file.
    """
    lockfile, name, folder = plan.lockfile, plan.experiment.name, plan.folder
    owner = lockfile.experiment if lockfile is not None else name
    own = {path.resolve() for path in files}
    for path, found in _specs_in(folder.path):
        if path.resolve() in own or found not in (owner, name):
            continue
        if found == name:
            problem = f"{path} is also named {name!r}"
        else:
            problem = f"continuum.lock and lineage.json belong to experiment {owner!r} ({path})"
        raise PreflightError(
            f"{folder.path}: {problem}; two experiments in one folder overwrite each other's "
            "lockfile and lineage: move one of the specs, with the data it names, to its own folder"
        )


def _specs_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """The experiments in a folder with their names, found by the text of their top level."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in SUFFIXES or not path.is_file() or path.stat().st_size > MAX_BYTES:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        named = _NAME.search(text)
        if named is not None and _FORMAT.search(text):
            yield path, named[1]
