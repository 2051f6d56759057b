"""`continuum init`: a commented experiment.yaml to start from, and the schema for the editor."""

from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from continuum.errors import UsageError
from continuum.loading.json_schema import schema_text
from continuum.runs.files import write_text

SPEC_NAME = "experiment.yaml"
SCHEMA_NAME = "experiment.schema.json"


class Template(StrEnum):
    """Where an experiment starts from; each is a file in `continuum/templates`."""

    quickstart = "quickstart"
    scratch = "scratch"
    continue_ = "continue"

    def text(self) -> str:
        """The experiment.yaml."""
        return (files("continuum") / "templates" / f"{self.value}.yaml").read_text(encoding="utf-8")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The experiment's folder; made if it is missing.")
    ] = Path(),
    template: Annotated[
        Template,
        typer.Option(
            help="quickstart runs offline in a minute; scratch pretrains on your own text files; "
            "continue trains downloaded weights on."
        ),
    ] = Template.quickstart,
) -> None:
    """Write a commented experiment.yaml, with a schema beside it for the editor."""
    spec = folder / SPEC_NAME
    if spec.exists():
        raise UsageError(f"{spec} is already there and is not overwritten; name another folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; an experiment is a folder")
    schema = folder / SCHEMA_NAME
    if not schema.exists():
        write_text(schema, schema_text())
    write_text(spec, template.text())
    typer.echo(f"{spec}")
    typer.echo(
        f"read it, then: continuum validate {folder}, continuum plan {folder}, "
        f"continuum run {folder}",
        err=True,
    )
