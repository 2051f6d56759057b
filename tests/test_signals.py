"""How a stage without state stops when it is asked to stop."""

import subprocess
import sys

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
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        print("went on")
except StoppedError as error:
    print(error)
"""


def output(before: str = "") -> str:
    program = PROGRAM.format(before=before)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_stop_is_not_swallowed_with_the_errors_of_a_library() -> None:
    assert output() == "stopped; it starts over with the next run\n"


def test_a_stop_that_came_before_takes_effect_at_once() -> None:
    assert output("os.kill(os.getpid(), signal.SIGUSR1)") == output()
