"""How a stage without state stops when it is asked to stop."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, time
from contextlib import suppress
from continuum.errors import StoppedError
from continuum.execution.signals import install_signal_handlers, exit_on_signal

install_signal_handlers()
{before}
try:
    with exit_on_signal():
        with suppress(Exception):
            os.kill(os.getpid(), signal.{name})
            time.sleep(0.5)
        print("went on")
except StoppedError as error:
    print(error)
"""


STOPPED = "stopped; it starts over with the next run\n"


def output(before: str = "", *, name: str = "SIGTERM", ignored: str = "") -> str:
    program = PROGRAM.format(before=before, name=name)
    command = [sys.executable, "-c", program]
    if ignored:  # as nohup does
        command = ["sh", "-c", f"trap '' {ignored}; exec \"$@\"", "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU"])
def test_a_stop_is_not_swallowed_with_the_errors_of_a_library(name: str) -> None:
    assert output(name=name) == STOPPED


def test_a_stop_that_came_before_takes_effect_at_once() -> None:
    assert output("os.kill(os.getpid(), signal.SIGUSR1)") == STOPPED


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR2"])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(name: str) -> None:
    assert output(name=name, ignored=name.removeprefix("SIG")) == "went on\n"


def test_a_run_can_stop_its_workers_where_sigterm_was_ignored() -> None:
    assert output(ignored="TERM") == STOPPED
