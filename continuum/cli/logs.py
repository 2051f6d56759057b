"""`continuum logs`: print the output of a stage's process, or its metrics."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from continuum.cli.arguments import Overrides, Spec, open_experiment, stage_of
from continuum.errors import UsageError
from continuum.runs.folder import ExperimentFolder

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
    planned = stage_of(opened.plan(), stage)
    path = planned.run.metrics_path if metrics else planned.run.log_path
    if not follow:
        if not path.exists():
            raise UsageError(f"no output of {stage} yet ({path} does not exist)")
        typer.echo(path.read_text(encoding="utf-8", errors="replace"), nl=False)
        return
    _follow(path, opened.folder)


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
