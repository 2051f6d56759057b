"""How a stage without state leaves when it is told to stop."""

import subprocess
import sys

PROGRAM = """
import os, signal, time
from contextlib import suppress
from continuum.errors import StoppedError
from continuum.execution.signals import heed_signals, leaving_at_once

heed_signals()
{before}
try:
    with leaving_at_once():
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        print("went on")
except StoppedError as error:
    print(error)
"""


def told(before: str = "") -> str:
    program = PROGRAM.format(before=before)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_stop_is_not_swallowed_with_the_errors_of_a_library() -> None:
    assert told() == "stopped; it starts over with the next run\n"


def test_a_stop_that_came_before_is_heeded_now() -> None:
    assert told("os.kill(os.getpid(), signal.SIGUSR1)") == told()
