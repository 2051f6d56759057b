"""The `continuum` command as a real process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 600.0


@dataclass
class Cli:
    """Runs the command in a process (and process group) of its own."""

    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: object, expect: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; checks the exit code unless `expect` is None."""
        done = subprocess.run(
            self._command(arguments),
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=TIMEOUT_S,
            check=False,
        )
        if expect is not None:
            assert done.returncode == expect, f"{done.args}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start without waiting, in a new process group."""
        return subprocess.Popen(
            self._command(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )

    def _command(self, arguments: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-m", "continuum", *(str(argument) for argument in arguments)]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", **self.environment}


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the command and everything it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Poll until `condition()`; fails the test when it does not come."""
    import time

    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def only(folder: Path, pattern: str) -> Path:
    """The one path below `folder` that matches."""
    (found,) = folder.glob(pattern)
    return found
