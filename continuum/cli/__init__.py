"""The command line: the only place that parses arguments, prints, or exits."""

import errno
import gc
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from continuum.cli.console import (
    Quiet,
    Verbose,
    Verbosity,
    command,
    set_verbosity,
    verbosity,
    wants_json,
)
from continuum.cli.crash_report import report_bug
from continuum.cli.findings import Format, format_of_environment, show_findings
from continuum.disk_errors import FULL, describe_disk_error
from continuum.errors import ContinuumError, PreflightError
from continuum.loading.diagnostics import SpecError
from continuum.runs.file_names import STREAM_ERRORS

INTERRUPTED = 130
BROKEN_PIPE = 141
MISPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""What the machine refuses, besides a disk that is full or forbidden: no bug of continuum's."""
GC_THRESHOLD = 50_000
"""Objects between two searches for garbage: a command keeps what it reads until it ends, and
looking through it time and again took a fifth of a long plan."""


COMMANDS = {
    "validate": "Report all errors and warnings of an experiment file, with line numbers.",
    "render": "Print the resolved spec: bases merged, overrides applied, variables substituted.",
    "plan": "Show what a run would do: each stage's action, the reason, its cost. Runs nothing.",
    "run": "Run an experiment. Reuses completed stages and resumes interrupted ones.",
    "verify": "Verify the checksums of all run files; exit 8 when any differs.",
    "diff": "Compare two experiments: fields, stages that run again, cost, pins and metrics.",
    "lock": "Write continuum.lock from what the folder's runs used and made.",
    "stop": "Ask the run that holds this folder to save at the next step boundary and end.",
    "status": "Show every stage's state, progress and last losses, from the folder's files.",
    "logs": "Print a stage's log, or its metrics; with -f from another terminal while it runs.",
    "runs": "List every run of the folder: state, age, size, result, and what needs it.",
    "prune": "Remove runs that neither the spec nor a lock needs, oldest first.",
    "peek": "Print documents of a corpus or dataset as they will be trained on, token by token.",
    "lineage": "Print the ancestry of what the experiment made, from the end to the sources.",
    "memory": "Estimate the memory of each GPU that trains a model, by strategy and precision.",
    "doctor": "Show the environment and what an experiment misses here; exit 4 when there is any.",
    "init": "Write a commented experiment.yaml, with a schema beside it for the editor.",
    "explain": "Explain a code, a field, a kind of stage or a topic; without NAME, list them all.",
    "schema": "Print the JSON Schema of experiment.yaml and its bases, for editors.",
}
"""Each a module of this package with a function of its name, and that function's first line."""


app = typer.Typer(
    name="continuum",
    help="Run (continued) pretraining experiments that are described in YAML.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from continuum.runs.installed import own_version

        typer.echo(f"continuum {own_version()}")
        raise typer.Exit


@app.callback()
def options(
    _version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run (continued) pretraining experiments that are described in YAML."""
    set_verbosity(quiet=quiet, verbose=verbose)


def register_commands(arguments: Sequence[str]) -> None:
    """Give the app its commands; only the one that is asked for is imported.

    The others stand there with their name and help alone: half of the time of a short command
    would go into what it does not use. Completion asks for all of them.
    """
    wanted = next((word for word in arguments if word in COMMANDS), None)
    needs_all = "_CONTINUUM_COMPLETE" in os.environ
    for name, summary in COMMANDS.items():
        if needs_all or name == wanted:
            module = importlib.import_module(f"{__name__}.{name}")
            app.command(name)(command(getattr(module, name)))
        else:
            app.command(name, help=summary)(_not_imported)


def _not_imported() -> None:
    raise AssertionError("a command is imported before it is called")


def main() -> None:
    """Entry of the `continuum` command; the one place where errors become exit codes."""
    code = ContinuumError.exit_code
    _prepare_streams()
    try:
        code = _run()
        sys.stdout.flush()  # at its end, Python would tell of a failure in its own words
    except BrokenPipeError:  # the reader has left (`| head`)
        code = BROKEN_PIPE
        _drop_output()
    except OSError as error:
        code = code or _show_unexpected(error)
        _drop_output()
    sys.exit(code)


def _prepare_streams() -> None:
    """Neither a stream that is closed nor a letter that one cannot take is a reason to die."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the closed one's number
            os.set_inheritable(nowhere, True)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=STREAM_ERRORS)


def _run() -> int:
    """Run the command and tell what went wrong; returns the exit code.

    Raises:
        OSError: nothing can be printed.
    """
    try:
        gc.set_threshold(GC_THRESHOLD)
        register_commands(sys.argv[1:])
        return _run_app()
    except ContinuumError as error:
        _show_traceback()
        _show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return _show_unexpected(error)


def _run_app() -> int:
    """The app's exit code; of a pipe that its reader has closed, Typer and rich make 1, a bug's."""
    try:
        app(standalone_mode=True)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):
            raise leaving.__context__ from None
        return leaving.code if isinstance(leaving.code, int) else 0
    return 0


def _drop_output() -> None:
    """Let what is left to be printed go nowhere, where it cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _show_error(error: ContinuumError) -> None:
    if isinstance(error, SpecError):
        wanted = Format.JSON if wants_json() else format_of_environment()
        show_findings(error.diagnostics, wanted, error.lines)
    else:
        print(f"error: {error}", file=sys.stderr)


def _show_unexpected(error: Exception) -> int:
    """Say what the machine refused, or that this is a bug; returns the exit code."""
    words = _refusal(error)
    if words is not None:
        _show_traceback()
        print(f"error: {words}", file=sys.stderr)
        return PreflightError.exit_code
    report_bug(error, shows_traceback=verbosity() is Verbosity.VERBOSE)
    return ContinuumError.exit_code


def _refusal(error: Exception) -> str | None:
    """What the machine refused, in words; None for what is a bug."""
    if isinstance(error, OSError) and error.filename is None and error.errno in FULL:
        return error.strerror  # of a stream, such as stdout: on which disk is not known
    if isinstance(error, OSError) and error.errno in MISPLACED:
        return f"{error.filename}: {error.strerror}"
    return describe_disk_error(error, Path.cwd())


def _show_traceback() -> None:
    """Where an error came from, for who looks for a bug behind it."""
    if verbosity() is Verbosity.VERBOSE:
        traceback.print_exc()


if __name__ == "__main__":
    main()
