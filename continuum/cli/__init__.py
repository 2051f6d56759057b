"""The command line: the only place that parses arguments, prints, or exits."""

import os
import sys

import typer

from continuum import __version__
from continuum.cli import (
    diff,
    explain,
    init,
    lineage,
    lock,
    logs,
    plan,
    run,
    schema,
    status,
    stop,
    validate,
    verify,
)
from continuum.errors import ContinuumError, PreflightError
from continuum.spec.diagnostics import SpecError

app = typer.Typer(
    name="continuum",
    help="Run (continued) pretraining experiments that are described in YAML.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("validate")(validate.validate)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("verify")(verify.verify)
app.command("diff")(diff.diff)
app.command("lock")(lock.lock)
app.command("stop")(stop.stop)
app.command("status")(status.status)
app.command("logs")(logs.logs)
app.command("lineage")(lineage.lineage)
app.command("init")(init.init)
app.command("explain")(explain.explain)
app.command("schema")(schema.schema)

INTERRUPTED = 130
BROKEN_PIPE = 141


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"continuum {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Run (continued) pretraining experiments that are described in YAML."""


def main() -> None:
    """Entry of the `continuum` command; the one place where errors become exit codes."""
    try:
        app(standalone_mode=True)
    except SpecError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except ContinuumError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(PreflightError.exit_code)
    except BrokenPipeError:
        # The reader has left (`| head`); Python would complain again when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


if __name__ == "__main__":
    main()
