"""`continuum stop`: stop a run in another process or on another machine, safely."""

import time
from typing import Annotated

import typer

from continuum.cli.arguments import Spec, open_folder
from continuum.errors import PreflightError, StageFailedError
from continuum.runs.files import write_text
from continuum.runs.folder import ExperimentFolder

POLL_S = 0.2


def stop(
    spec: Spec,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for the run to end; 0 returns at once.")
    ] = 150.0,
) -> None:
    """Ask the run in this folder to save at the next step and stop."""
    folder = open_folder(spec)
    if not folder.is_locked():
        _check_locks(folder)
        typer.echo("no run in this folder")
        return
    owner = folder.describe_owner()
    write_text(folder.stop_request, "")
    typer.echo(f"asked {owner} to stop")
    end = time.monotonic() + wait
    while folder.is_locked():
        if wait == 0:
            return
        if time.monotonic() > end:
            raise StageFailedError(
                f"{owner} has not stopped after {wait:g} s; it may still be saving"
            )
        time.sleep(POLL_S)
    typer.echo("stopped; `continuum run` resumes")


def _check_locks(folder: ExperimentFolder) -> None:
    """Check that a run on another machine would be noticed.

    Raises:
        PreflightError: it would not.
    """
    try:
        folder.check_locks()
    except PreflightError as error:
        raise PreflightError(
            f"{error}\ncannot tell whether a run is active on another machine; "
            f"{folder.describe_owner()} was the last: send it SIGTERM there"
        ) from None
