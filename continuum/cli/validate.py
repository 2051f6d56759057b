"""`continuum validate`: the errors and warnings of an experiment file."""

from typing import Annotated

import typer

from continuum.cli.arguments import Overrides, Spec, experiment_file
from continuum.cli.console import AsJson, Verbosity, verbosity
from continuum.cli.findings import Format, FormatOption, show_findings
from continuum.formatting import plural
from continuum.lint import check
from continuum.loading.diagnostics import SpecError, has_errors


def validate(
    spec: Spec,
    overrides: Overrides = None,
    output_format: FormatOption = Format.HUMAN,
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
) -> None:
    """Report all errors and warnings of an experiment file, with line numbers."""
    output_format = Format.JSON if as_json else output_format
    checked = check(experiment_file(spec), overrides or (), strict=strict)
    found = checked.found
    is_for_people = output_format is Format.HUMAN
    if not (is_for_people and verbosity() is Verbosity.QUIET and not has_errors(found)):
        show_findings(found, output_format)
    if has_errors(found):
        raise typer.Exit(SpecError.exit_code)
    if output_format is not Format.JSON:
        experiment = checked.loaded.experiment
        assert experiment is not None, "it has no errors"
        typer.echo(f"{experiment.name}: valid, {plural(len(experiment.stages), 'stage')}")
