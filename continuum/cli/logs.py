"""`continuum logs`: print the output of a stage's process, or its metrics."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from continuum.cli.arguments import Overrides, Spec, open_experiment, stage_of
from continuum.cli.console import Verbosity, verbosity
from continuum.errors import UsageError
from continuum.planning.in_progress import find_earlier_runs
from continuum.planning.plan import Plan
from continuum.runs.folder import ExperimentFolder, StageRun

POLL_S = 0.2


def logs(
    spec: Spec,
    stage: Annotated[str, typer.Argument(help="The name of a stage.")],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Follow until the run ends.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print metrics.jsonl instead of the log.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Print a stage's log or its metrics; -f follows a running stage."""
    opened = open_experiment(spec, overrides)
    run, note = _find_run(opened.plan(), stage)
    path = run.metrics_path if metrics else run.log_path
    if verbosity() is Verbosity.QUIET:
        note = ""
    if follow:
        _say(note)
        _follow(path, opened.folder)
        return
    if not path.exists():
        raise UsageError(f"no output of {stage} yet ({path} does not exist)")
    typer.echo(path.read_text(encoding="utf-8", errors="replace"), nl=False)
    _say(note)


def _find_run(plan: Plan, stage: str) -> tuple[StageRun, str]:
    """The run of a stage whose output to print, and its state if it is not complete."""
    earlier = find_earlier_runs(plan).get(stage)
    if earlier is not None and not (stage in plan.stages and plan.stages[stage].existing.is_begun):
        return earlier.run, f"{stage}: {earlier.attempt} (runs/{earlier.run.name}); {earlier.note}"
    planned = stage_of(plan, stage)
    attempt = planned.existing.attempt
    return planned.run, "" if attempt is None else f"{stage}: {attempt}"


def _say(note: str) -> None:
    """Print on stderr what is not part of the log."""
    if note:
        typer.echo(note, err=True)


def _follow(path: Path, folder: ExperimentFolder) -> None:
    """Print what is appended until the run ends."""
    growing = GrowingFile(path)
    while True:
        has_ended = not folder.is_locked()
        typer.echo(growing.news(), nl=False)
        if has_ended:
            return
        time.sleep(POLL_S)


class GrowingFile:
    """A text file that another process appends to or rewrites.

    A recovery rewrites metrics.jsonl without the rows that it will repeat; lines that are in both
    versions are not new.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._position = 0
        self._seen: list[str] = []

    def news(self) -> str:
        """The text that is new since the last call; empty while there is no file."""
        try:
            file = self._path.open(encoding="utf-8", errors="replace", newline="")
        except FileNotFoundError:
            return ""
        with file:
            status = os.fstat(file.fileno())
            is_same = status.st_ino == self._inode and status.st_size >= self._position
            file.seek(self._position if is_same else 0)
            text = file.read()
            self._inode, self._position = status.st_ino, file.tell()
        if is_same:
            self._seen.append(text)
            return text
        before, self._seen = "".join(self._seen), [text]
        return text[_num_in_common(before, text) :]


def _num_in_common(before: str, after: str) -> int:
    """The length of the lines at the start that are equal."""
    num = 0
    for old, new in zip(before.splitlines(True), after.splitlines(True), strict=False):
        if old != new:
            break
        num += len(new)
    return num
