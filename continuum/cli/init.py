"""`continuum init`: create a commented experiment.yaml, and its JSON Schema for the editor."""

from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from continuum.cli.arguments import SPEC_NAME
from continuum.cli.console import check_choice
from continuum.errors import UsageError
from continuum.loading.json_schema import schema_text
from continuum.runs.files import write_text

SCHEMA_NAME = "experiment.schema.json"


class Template(StrEnum):
    """A file in `continuum/templates`."""

    quickstart = "quickstart"
    scratch = "scratch"
    continue_ = "continue"

    @classmethod
    def parse(cls, name: str) -> "Template":
        """Return the template that `--template` names.

        Raises:
            UsageError: there is none.
        """
        check_choice("--template", name, cls)
        return cls(name)

    def text(self) -> str:
        """The text of the experiment.yaml."""
        return (files("continuum") / "templates" / f"{self.value}.yaml").read_text(encoding="utf-8")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The experiment's folder; created if missing.")
    ] = Path(),
    template: Annotated[
        Template,
        typer.Option(
            parser=Template.parse,
            metavar="|".join(Template),
            autocompletion=lambda: list(Template),
            help="quickstart runs offline in a minute; scratch pretrains on your own text files; "
            "continue continues training from downloaded weights.",
        ),
    ] = Template.quickstart,
) -> None:
    """Create a commented experiment.yaml, and its JSON Schema for the editor."""
    spec = folder / SPEC_NAME
    if spec.exists():
        raise UsageError(f"{spec} already exists; give another folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder")
    schema = folder / SCHEMA_NAME
    if not schema.exists():
        write_text(schema, schema_text())
    write_text(spec, template.text())
    typer.echo(f"{spec}")
    typer.echo(
        f"next: continuum validate {folder}, continuum plan {folder}, continuum run {folder}",
        err=True,
    )
