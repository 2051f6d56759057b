"""`continuum prune`: remove runs that nothing needs."""

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import PydanticCustomError

from continuum.cli.arguments import Opened, Overrides, Spec, UnsafeLocks, open_experiment
from continuum.cli.console import AsJson, Columns, Result, show, wants_json
from continuum.cli.runs import HEADINGS, as_document, row_of
from continuum.errors import UsageError
from continuum.experiment.amounts import parse_duration
from continuum.formatting import format_bytes, plural
from continuum.lineage.reading import build_graph, write_lineage
from continuum.lineage.removed import remember_removed
from continuum.planning.approval import refuse_second_spec
from continuum.planning.inventory import PruneRule, RunInfo, choose_removable, list_runs
from continuum.planning.lockfile import Lockfile, read_lockfile
from continuum.planning.plan import Plan

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)b?", re.IGNORECASE)


def prune(
    spec: Spec,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Only remove runs older than this, e.g. 12h or 30d."),
    ] = None,
    keep_last: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Keep the newest N of each stage's unneeded runs."),
    ] = 0,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Stop when all runs together are no larger, e.g. 200GB."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN|STAGE", help="Keep this run, or all runs of this stage. Repeatable."
        ),
    ] = None,
    locks: Annotated[
        list[Path] | None,
        typer.Option(
            "--lock", metavar="FILE", help="Also keep the runs of this lockfile. Repeatable."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed; remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
    overrides: Overrides = None,
    unsafe_locks: UnsafeLocks = False,
    as_json: AsJson = False,
) -> "Pruned":
    """Remove runs that neither the spec nor a lockfile needs, oldest first."""
    opened = open_experiment(spec, overrides)
    rule = PruneRule(_seconds(older_than), keep_last, _bytes(max_size))
    kept, names = [_lockfile_at(path) for path in locks or ()], keep or ()
    if dry_run:
        return Pruned(tuple(choose_removable(list_runs(opened.plan(), kept, names), rule)), True)
    with opened.folder.lock(unsafe=unsafe_locks):
        plan = opened.plan()
        refuse_second_spec(plan, opened.files)
        chosen = tuple(choose_removable(list_runs(plan, kept, names), rule))
        if chosen and not yes:
            _ask(chosen)
        _remove(opened, plan, chosen)
    return Pruned(chosen, False)


@dataclass(frozen=True)
class Pruned(Result):
    """The runs that were removed, or that would be."""

    schema = "continuum.pruned/1"
    runs: tuple[RunInfo, ...]
    is_dry: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "dry_run": self.is_dry,
            "size_bytes": sum(it.size_bytes for it in self.runs),
            "runs": [as_document(it) for it in self.runs],
        }

    def parts(self) -> Iterator[str | Columns]:
        if not self.runs:
            yield "nothing to remove"
            return
        if self.is_dry:
            yield Columns(HEADINGS, [row_of(it) for it in self.runs])
        size = format_bytes(sum(it.size_bytes for it in self.runs))
        verb = "would remove" if self.is_dry else "removed"
        yield f"{verb} {plural(len(self.runs), 'run')}, {size}"


def _ask(chosen: tuple[RunInfo, ...]) -> None:
    """Print what will be removed, and ask for confirmation.

    Raises:
        UsageError: stdin is not a terminal.
        Abort: the answer is no.
    """
    if wants_json() or not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation: use --yes to remove, or --dry-run")
    show(Pruned(chosen, True))
    typer.confirm("Remove them?", abort=True)


def _remove(opened: Opened, plan: Plan, chosen: tuple[RunInfo, ...]) -> None:
    """Remove the runs; their nodes stay in the lineage."""
    folder = opened.folder
    _clear(folder.runs_dir)
    if not chosen:
        return
    graph = build_graph(folder, plan.experiment.name, plan)
    for it in chosen:
        remember_removed(folder, graph, [it.run.name])
        # Renamed first, so that an interrupted removal does not leave a partial run.
        doomed = folder.runs_dir / f".removing-{it.run.name}"
        it.run.path.replace(doomed)
        shutil.rmtree(doomed)
    write_lineage(folder, plan.experiment.name, plan)


def _clear(runs_dir: Path) -> None:
    """Remove what an interrupted removal has left."""
    for left in runs_dir.glob(".removing-*"):
        shutil.rmtree(left)


def _lockfile_at(path: Path) -> Lockfile:
    lockfile = read_lockfile(path)
    if lockfile is None:
        raise UsageError(f"--lock {path}: no such file")
    return lockfile


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds: float = parse_duration(text)
    except PydanticCustomError:
        raise UsageError(
            f"--older-than {text!r}: not a valid duration; use e.g. 30m, 12h or 30d"
        ) from None
    return seconds


def _bytes(text: str | None) -> int | None:
    """Convert `500MB` or `2TB` to bytes; a kB has 1,000 bytes.

    Raises:
        UsageError: the text is not a size.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--max-size {text!r}: not a valid size; use e.g. 500MB, 200GB or 2TB")
    return round(float(match[1]) * UNITS[match[2].lower()])
