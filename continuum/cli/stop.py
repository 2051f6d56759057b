"""`continuum stop`: end a run that goes on elsewhere, safely."""

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
        float, typer.Option("--wait", help="Seconds to wait for the run to end; 0 does not wait.")
    ] = 150.0,
) -> None:
    """Ask the run that holds this folder to save at the next step boundary and end."""
    folder = open_folder(spec)
    if not folder.is_locked():
        _check_locks(folder)
        typer.echo("nothing is running here")
        return
    owner = folder.describe_owner()
    write_text(folder.stop_request, "")
    typer.echo(f"asked {owner} to stop")
    end = time.monotonic() + wait
    while folder.is_locked():
        if wait == 0:
            return
        if time.monotonic() > end:
            raise StageFailedError(f"{owner} has not ended after {wait:g} s; it may still save")
        time.sleep(POLL_S)
    typer.echo("stopped; `continuum run` goes on from there")


def _check_locks(folder: ExperimentFolder) -> None:
    """See that a run would be known of, wherever it goes on.

    Raises:
        PreflightError: it would not.
    """
    try:
        folder.check_locks()
    except PreflightError as error:
        raise PreflightError(
            f"{error}\nwhether a run goes on elsewhere cannot be known here; "
            f"{folder.describe_owner()} was the last: send it SIGTERM there"
        ) from None
