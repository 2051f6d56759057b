"""`continuum validate`: is the file right?"""

import typer

from continuum.cli.arguments import Overrides, Spec, open_experiment


def validate(spec: Spec, overrides: Overrides = None) -> None:
    """Check an experiment file; every mistake is told, with its line."""
    opened = open_experiment(spec, overrides)
    num_stages = len(opened.experiment.stages)
    typer.echo(f"{opened.experiment.name}: valid, {num_stages} stages")
