"""`continuum verify`: are the files still those that were recorded?"""

from dataclasses import asdict
from typing import Annotated

import typer

from continuum.cli.arguments import Spec, experiment_file
from continuum.cli.columns import show_line
from continuum.cli.console import print_json
from continuum.errors import IntegrityError
from continuum.figures import format_bytes
from continuum.lineage.verify import Verified, verify_folder
from continuum.runs import ExperimentFolder

SCHEMA = "continuum.verify/1"
MAX_NAMES = 3
"""Runs that are named in one line; the JSON document names all."""


def verify(
    spec: Spec,
    fast: Annotated[
        bool, typer.Option("--fast", help="Compare presence and sizes; do not read the files.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Hold every file of the folder's runs against its record; exit 8 when any differs."""
    folder = ExperimentFolder(experiment_file(spec).parent.resolve())
    found = verify_folder(folder, fast=fast)
    if as_json:
        print_json({"schema": SCHEMA, "fast": fast, "ok": not found.findings, **asdict(found)})
    else:
        _print(found, fast=fast)
    if found.findings:
        raise IntegrityError(
            f"{len(found.findings)} thing(s) differ from their records; `continuum run --rerun "
            "STAGE` makes a stage again, and a damaged checkpoint is never gone on from"
        )


def _print(found: Verified, *, fast: bool) -> None:
    for finding in found.findings:
        show_line(f"runs/{finding.run}: {finding.what}: {finding.problem}", "red")
    how = "by presence and size" if fast else "every byte"
    show_line(
        f"{found.num_runs:,} runs, {found.num_checkpoints:,} checkpoints, "
        f"{format_bytes(found.num_bytes)} looked at, {how}"
    )
    _print_runs(
        found.not_proved,
        "consistent, not proved (neither continuum.lock nor a run made "
        "from it has its seal; `continuum lock` records it)",
    )
    _print_runs(found.not_sealed, "not sealed (made by an earlier release)")


def _print_runs(names: tuple[str, ...], what: str) -> None:
    """Name the runs that something is true of, the first ones by name."""
    if names:
        more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
        shown = ", ".join(f"runs/{name}" for name in names[:MAX_NAMES])
        show_line(f"{what}: {shown}{more}", "yellow")
