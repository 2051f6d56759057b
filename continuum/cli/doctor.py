"""`continuum doctor`: show what is installed, and what an experiment lacks on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Opened, Overrides, open_experiment
from continuum.cli.console import AsJson, Result
from continuum.errors import PreflightError
from continuum.planning.doctor import Torch, ask_torch, find_missing, free_bytes
from continuum.runs.installed import installed_versions
from continuum.runs.provenance import describe_environment


def doctor(
    spec: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SPEC]",
            help="experiment.yaml, or its folder.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> "Diagnosis":
    """Show the environment; exit 4 if an experiment needs something that is missing."""
    opened = None if spec is None else open_experiment(spec, overrides)
    folder = Path.cwd() if opened is None else opened.folder.path
    torch = ask_torch()
    missing = list(find_missing(torch, folder, None if opened is None else opened.plan()))
    return Diagnosis(_environment(opened, folder, torch), missing)


@dataclass(frozen=True)
class Diagnosis(Result):
    """The environment, and what it lacks."""

    schema = "continuum.doctor/1"
    environment: dict[str, Any]
    missing: list[str]

    def as_json(self) -> dict[str, Any]:
        return {"environment": self.environment, "missing": self.missing}

    def parts(self) -> Iterator[str]:
        for name, value in self.environment.items():
            if name == "distributions":
                yield f"distributions: {len(value)} (--json lists them)"
            elif isinstance(value, dict):
                yield f"{name}:"
                yield from (f"  {key}: {_words(item)}" for key, item in value.items())
            else:
                yield f"{name}: {_words(value)}"
        yield "missing:" if self.missing else "nothing is missing"
        yield from (f"  - {line}" for line in self.missing)

    def finish(self) -> None:
        if self.missing:
            raise typer.Exit(PreflightError.exit_code)


def _environment(opened: Opened | None, folder: Path, torch: Torch) -> dict[str, Any]:
    files = () if opened is None else opened.files
    return {
        **describe_environment(folder, files),
        "torch": torch.facts,
        "free_bytes": free_bytes(folder),
        "distributions": installed_versions(),
    }


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)
