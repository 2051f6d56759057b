"""What stands behind stdout and stderr: readers that leave, streams that are closed or full."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.lint.test_rules import SPECS
from tests.spec.documents import BOOKS, HEAD, TRAINING, write

SPEC = str(SPECS / "W002-steps.right.yaml")
PRINTING = [
    ("--help",),
    ("--version",),
    ("plan", "--help"),
    ("schema",),
    ("explain",),
    ("explain", "lr", "--json"),
    ("render", SPEC),
    ("render", SPEC, "--json"),
    ("validate", SPEC),
    ("validate", SPEC, "--format", "json"),
    ("plan", SPEC),
    ("plan", SPEC, "--json"),
    ("plan", SPEC, "--why", "pretrain"),
    ("status", SPEC),
    ("verify", SPEC),
    ("stop", SPEC),
    ("diff", SPEC, SPEC),
]


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A spec with one mistake."""
    return write(tmp_path / "wrong.yaml", TRAINING.replace("lr: 1e-3", "lr: fast"))


def without_reader(*arguments: str, **environment: str) -> tuple[int, bytes]:
    """The exit code of a command whose stdout is a pipe that nobody reads; what stderr got."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "continuum", *arguments],
            stdout=writing,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            check=False,
        )
    finally:
        os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", PRINTING, ids=lambda words: " ".join(words).replace(SPEC, ""))
def test_a_reader_that_leaves_is_told_by_the_exit_code_alone(
    arguments: tuple[str, ...], cli: Cli
) -> None:
    assert cli.without_reader(*arguments) == (141, "")


@pytest.mark.parametrize("arguments", [("--help",), ("plan", SPEC), ("status", SPEC)])
def test_a_reader_may_leave_what_is_drawn(arguments: tuple[str, ...]) -> None:
    assert without_reader(*arguments, FORCE_COLOR="1") == (141, b"")


def test_a_reader_may_leave_before_a_refusal(wrong: Path) -> None:
    assert without_reader("plan", str(wrong), "--json") == (141, b"")


def test_a_reader_of_both_streams_may_leave(wrong: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "continuum", "plan", str(wrong)]
    done = subprocess.run(command, stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(closed: str, wrong: Path) -> None:
    commands: list[tuple[list[str], int]] = [(["plan", SPEC], 0), (["validate", str(wrong)], 3)]
    if closed == "<&- >&- 2>&-":
        commands += [(["diff", SPEC, SPEC], 0), (["plan", "--nonsense"], 2)]
    for command, code in commands:
        line = f"{shlex.join([sys.executable, '-m', 'continuum', *command])} {closed}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == code, (command, done.stderr)
        assert "bug" not in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_stages_run_though_streams_are_closed(closed: str, tmp_path: Path) -> None:
    write(tmp_path / "experiment.yaml", HEAD + BOOKS)
    line = f"{sys.executable} -m continuum run {tmp_path} {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_is_told_though_stdout_is_closed(wrong: Path) -> None:
    line = f"{sys.executable} -m continuum validate {wrong} >&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert "error E103: lr must be a number, not 'fast'" in done.stderr


def test_a_full_disk_is_told_of_what_is_printed_last() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the device /dev/full is Linux's")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "continuum", "validate", SPEC, "--format", "json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "error: No space left on device\n")
