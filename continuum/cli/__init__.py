"""The command line: the only place that parses arguments, prints, or exits."""

import errno
import gc
import importlib
import io
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from continuum import __version__
from continuum.cli.console import (
    Quiet,
    Result,
    Verbose,
    Verbosity,
    set_verbosity,
    show,
    verbosity,
    wants_json,
)
from continuum.cli.findings import Format, format_of_environment, show_findings
from continuum.disk_errors import FULL, describe_disk_error
from continuum.errors import ContinuumError, PreflightError
from continuum.loading.diagnostics import SpecError
from continuum.runs.file_names import STREAM_ERRORS
from continuum.runs.redaction import masked, without_secrets

INTERRUPTED = 130
BROKEN_PIPE = 141
MISPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""Errors of the file system that are not bugs, beside a full or read-only disk."""
GC_THRESHOLD = 50_000
"""Objects between two garbage collections: a command keeps what it reads until it ends, and
collecting took a fifth of the time of a long plan."""


COMMANDS = {
    "validate": "Report all errors and warnings of an experiment file, with line numbers.",
    "render": "Print the resolved spec: bases merged, overrides applied, variables substituted.",
    "plan": "Show what a run would do: each stage's action, reasons and cost. Runs nothing.",
    "run": "Run an experiment. Reuses completed stages and resumes interrupted ones.",
    "verify": "Verify the checksums of all run files; exit 8 if any differs.",
    "diff": "Compare two experiments: fields, stages to run again, costs, pins and metrics.",
    "lock": "Write continuum.lock from the records of the runs, check it, or upgrade its pins.",
    "stop": "Ask the run in this folder to save at the next step and stop.",
    "status": "Show each stage's state, progress and latest losses.",
    "logs": "Print a stage's log or its metrics; -f follows a running stage.",
    "compare": "Compare training runs: fields that differ, losses, tokens, time and speed.",
    "runs": "List all runs of the folder: state, age, size, result, and what needs them.",
    "prune": "Remove runs that neither the spec nor a lockfile needs, oldest first.",
    "peek": "Print documents of a corpus or dataset, token by token, as they are trained on.",
    "lineage": "Print the ancestry of the results, back to the sources.",
    "report": "Write a page with stages, lineage, curves, evaluations and environment.",
    "memory": "Estimate the GPU memory to train a model, by strategy and precision.",
    "doctor": "Show the environment; exit 4 if an experiment needs something that is missing.",
    "init": "Create a commented experiment.yaml, and its JSON Schema for the editor.",
    "explain": "Explain a code, a field, a kind of stage or a topic; without NAME, list them all.",
    "schema": "Print the JSON Schema of experiment.yaml and its bases, for editors.",
}
"""The summary of each command, which is a function in a module of the same name. It repeats the
first line of the docstring, so that `--help` imports no command."""


SUMMARY = "Run pretraining and continued-pretraining experiments from one YAML file."
app = typer.Typer(
    name="continuum",
    help=SUMMARY,
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


def _finish(result: Result | None, **_: bool) -> None:
    """Print what a command returned, then raise what it has to."""
    if result is not None:
        show(result)
        result.finish()


@app.callback(help=SUMMARY, result_callback=_finish)
def options(
    _version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Options that are given before the command."""
    set_verbosity(quiet=quiet, verbose=verbose)


def register_commands(arguments: Sequence[str]) -> None:
    """Add the commands to the app; only the one that is used is imported.

    Importing all of them would take half the time of a short command. Completion needs them all.
    """
    wanted = next((word for word in arguments if word in COMMANDS), None)
    needs_all = "_CONTINUUM_COMPLETE" in os.environ
    for name, summary in COMMANDS.items():
        if needs_all or name == wanted:
            module = importlib.import_module(f"{__name__}.{name}")
            app.command(name)(getattr(module, name))
        else:
            app.command(name, help=summary)(_not_imported)


def _not_imported() -> None:
    raise AssertionError("a command is imported before it is called")


def main() -> None:
    """Entry point of `continuum`; the only place that turns errors into exit codes."""
    code = ContinuumError.exit_code
    _prepare_streams()
    try:
        code = _run()
        sys.stdout.flush()  # Python would report a failure at exit in its own words
    except BrokenPipeError:  # the reader has closed the pipe (`| head`)
        code = BROKEN_PIPE
        _drop_output()
    except OSError as error:
        code = code or _show_unexpected(error)
        _drop_output()
    sys.exit(code)


def _prepare_streams() -> None:
    """Replace closed streams, and characters that the encoding of a stream does not have."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the number of the closed one
            os.set_inheritable(nowhere, True)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=STREAM_ERRORS)


def _run() -> int:
    """Run the command and report its error; returns the exit code.

    Raises:
        OSError: the error cannot be printed.
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
    """Run the app; returns its exit code.

    Raises:
        BrokenPipeError: the reader has closed the pipe, for which Typer and rich exit with 1.
    """
    try:
        app(standalone_mode=True)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):
            raise leaving.__context__ from None
        return leaving.code if isinstance(leaving.code, int) else 0
    return 0


def _drop_output() -> None:
    """Discard what is left to print, so that it cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _show_error(error: ContinuumError) -> None:
    if isinstance(error, SpecError):
        wanted = Format.JSON if wants_json() else format_of_environment()
        show_findings(error.diagnostics, wanted, error.lines)
    else:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr)


def _show_unexpected(error: Exception) -> int:
    """Report an error of the machine, or a bug; returns the exit code."""
    words = _refusal(error)
    if words is not None:
        _show_traceback()
        print(f"error: {without_secrets(words)}", file=sys.stderr)
        return PreflightError.exit_code
    _report_bug(error)
    return ContinuumError.exit_code


def _refusal(error: Exception) -> str | None:
    """Describe an error of the machine; None if it is a bug."""
    if isinstance(error, OSError) and error.filename is None and error.errno in FULL:
        return error.strerror  # of a stream such as stdout, whose disk is unknown
    if isinstance(error, OSError) and error.errno in MISPLACED:
        return f"{error.filename}: {error.strerror}"
    return describe_disk_error(error, Path.cwd())


def _report_bug(error: Exception) -> None:
    """Report a bug on stderr, with its traceback there or in a file."""
    text = without_secrets("".join(traceback.format_exception(error)))
    line = without_secrets(traceback.format_exception_only(error)[-1].strip())
    path = None if verbosity() is Verbosity.VERBOSE else _save_traceback(text)
    if path is None:
        print(text, file=sys.stderr)
    print(f"continuum has a bug: {line}", file=sys.stderr)
    where = "the traceback above" if path is None else path
    print(f"  please report it, with the command and {where}", file=sys.stderr)


def _save_traceback(text: str) -> str | None:
    """Write the traceback to a file; returns its path, or None if it cannot be written."""
    about = f"continuum {__version__}, Python {platform.python_version()}, {platform.platform()}"
    command = " ".join(map(masked, sys.argv))
    try:
        handle, path = tempfile.mkstemp(prefix="continuum-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{about}\n{command}\n\n{text}")
    except OSError:
        return None
    return path


def _show_traceback() -> None:
    if verbosity() is Verbosity.VERBOSE:
        print(without_secrets(traceback.format_exc()), file=sys.stderr)


if __name__ == "__main__":
    main()
