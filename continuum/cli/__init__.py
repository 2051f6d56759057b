"""The command line: the only place that parses arguments, prints, or exits."""

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

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
    render,
    run,
    schema,
    status,
    stop,
    validate,
    verify,
)
from continuum.cli.bugs import report_bug
from continuum.cli.console import (
    Verbosity,
    quiet_option,
    set_verbosity,
    verbose_option,
    verbosity,
    with_verbosity,
)
from continuum.cli.findings import format_of_environment, show_findings
from continuum.errors import ContinuumError, PreflightError
from continuum.spec.diagnostics import SpecError

INTERRUPTED = 130
BROKEN_PIPE = 141
MACHINE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENAMETOOLONG})
"""What the machine refuses, besides files that are absent or forbidden: no bug of continuum's."""


class _App(typer.Typer):
    """Every command has `-q` and `-v`."""

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        register = super().command(name, **options)
        return lambda function: register(with_verbosity(function))


app = _App(
    name="continuum",
    help="Run (continued) pretraining experiments that are described in YAML.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("validate")(validate.validate)
app.command("render")(render.render)
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


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"continuum {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
    quiet: bool = quiet_option(),
    verbose: bool = verbose_option(),
) -> None:
    """Run (continued) pretraining experiments that are described in YAML."""
    set_verbosity(quiet=quiet, verbose=verbose)


def main() -> None:
    """Entry of the `continuum` command; the one place where errors become exit codes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a letter is no reason to die
    try:
        app(standalone_mode=True)
    except ContinuumError as error:
        _show_traceback()
        _show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader has left (`| head`); Python would complain again when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        sys.exit(_show_unexpected(error))


def _show_error(error: ContinuumError) -> None:
    if isinstance(error, SpecError):
        show_findings(error.diagnostics, format_of_environment(), error.lines)
    else:
        print(f"error: {error}", file=sys.stderr)


def _show_unexpected(error: Exception) -> int:
    """Say what the machine refused, or that this is a bug; returns the exit code."""
    refusals = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError)
    is_refusal = isinstance(error, refusals)
    if isinstance(error, OSError) and (is_refusal or error.errno in MACHINE_ERRORS):
        _show_traceback()
        named = f"{error.filename}: " if error.filename is not None else ""
        print(f"error: {named}{error.strerror}", file=sys.stderr)
        return PreflightError.exit_code
    report_bug(error, shows_traceback=verbosity() is Verbosity.VERBOSE)
    return ContinuumError.exit_code


def _show_traceback() -> None:
    """Where an error came from, for who looks for a bug behind it."""
    if verbosity() is Verbosity.VERBOSE:
        traceback.print_exc()


if __name__ == "__main__":
    main()
