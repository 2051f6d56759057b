"""`continuum validate`: is the file right, and is it wise?"""

from typing import Annotated

import typer

from continuum.cli.arguments import Opened, Overrides, Spec, experiment_file
from continuum.cli.console import AsJson, Verbosity, verbosity
from continuum.cli.findings import Format, FormatOption, show_findings
from continuum.lint import lint
from continuum.runs import ExperimentFolder
from continuum.spec.diagnostics import SpecError, has_errors
from continuum.spec.experiment import load_document


def validate(
    spec: Spec,
    overrides: Overrides = None,
    output_format: FormatOption = Format.HUMAN,
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
) -> None:
    """Check an experiment file; every mistake and what is unwise is told, by line."""
    output_format = Format.JSON if as_json else output_format
    path = experiment_file(spec)
    try:
        document = load_document(path, overrides or ())
    except SpecError as error:
        show_findings(error.diagnostics, output_format, error.lines)
        raise typer.Exit(SpecError.exit_code) from None
    opened = Opened(document, ExperimentFolder(path.parent.resolve()))
    found = lint(document, opened.plan(), strict=strict)
    is_for_people = output_format is Format.HUMAN
    if not (is_for_people and verbosity() is Verbosity.QUIET and not has_errors(found)):
        show_findings(found, output_format)
    if has_errors(found):
        raise typer.Exit(SpecError.exit_code)
    if output_format is not Format.JSON:
        num_stages = len(document.experiment.stages)
        typer.echo(f"{document.experiment.name}: valid, {num_stages} stages")
