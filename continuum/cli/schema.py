"""`continuum schema`: the JSON Schema of experiment.yaml, for editors."""

from pathlib import Path
from typing import Annotated

import typer

from continuum.cli.console import print_json_text
from continuum.cli.output_file import write_output
from continuum.loading.json_schema import schema_text


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it to FILE, overwriting it.")
    ] = None,
) -> None:
    """Print the JSON Schema of experiment.yaml and its bases, for editors.

    Editors with a YAML language server use it in files that start with
    `# yaml-language-server: $schema=FILE`.
    """
    if out is None:
        print_json_text(schema_text().rstrip("\n"))
        return
    write_output(out, schema_text())
    typer.echo(f"wrote {out}", err=True)
