"""`continuum doctor`: what is installed here, and what an experiment would miss."""

from pathlib import Path
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Opened, Overrides, open_experiment
from continuum.cli.console import print_json
from continuum.doctor import Torch, ask_torch, find_missing, free_bytes
from continuum.errors import PreflightError
from continuum.installed import installed_versions
from continuum.provenance import describe_environment

DOCTOR_SCHEMA = "continuum.doctor/1"


def doctor(
    spec: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SPEC]",
            help="experiment.yaml, or the folder that holds it.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Show the environment and what an experiment misses here; exit 4 when there is any."""
    opened = None if spec is None else open_experiment(spec, overrides)
    folder = Path.cwd() if opened is None else opened.folder.path
    torch = ask_torch()
    missing = list(find_missing(torch, folder, None if opened is None else opened.plan()))
    environment = _environment(opened, folder, torch)
    if as_json:
        document = {"environment": environment, "missing": missing}
        print_json({"schema": DOCTOR_SCHEMA, **document})
    else:
        _show(environment, missing)
    if missing:
        raise typer.Exit(PreflightError.exit_code)


def _environment(opened: Opened | None, folder: Path, torch: Torch) -> dict[str, Any]:
    files = () if opened is None else opened.document.composition.files
    return {
        **describe_environment(folder, files),
        "torch": torch.facts,
        "free_bytes": free_bytes(folder),
        "distributions": installed_versions(),
    }


def _show(environment: dict[str, Any], missing: list[str]) -> None:
    distributions = environment["distributions"]
    for name, value in environment.items():
        if name == "distributions":
            typer.echo(f"distributions: {len(distributions)} (--json lists them)")
        elif isinstance(value, dict):
            typer.echo(f"{name}:")
            for key, item in value.items():
                typer.echo(f"  {key}: {_words(item)}")
        else:
            typer.echo(f"{name}: {_words(value)}")
    typer.echo("missing:" if missing else "nothing is missing")
    for line in missing:
        typer.echo(f"  - {line}")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value is None else str(value)
