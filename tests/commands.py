"""The `continuum` command as a real process."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 600.0
SERVER = Path(__file__).with_name("command_server.py")


@dataclass
class Cli:
    """Runs the command in a process (and process group) of its own."""

    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: object, expect: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; checks the exit code unless `expect` is None.

        With variables that Python reads as it starts, it starts from nothing.
        """
        if any(name.startswith("PYTHON") for name in self.environment):
            done = subprocess.run(
                self._command(arguments),
                capture_output=True,
                text=True,
                env=self._environment(),
                timeout=TIMEOUT_S,
                check=False,
            )
        else:
            done = _server().run([str(it) for it in arguments], self._environment())
        if expect is not None:
            assert done.returncode == expect, f"{done.args}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def without_reader(self, *arguments: object) -> tuple[int, str]:
        """Run with a stdout that is a pipe nobody reads; the exit code, and what stderr got."""
        words = [str(it) for it in arguments]
        done = _server().run(words, self._environment(), has_reader=False)
        return done.returncode, done.stderr

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


class _Server:
    """The `command_server.py` of this process."""

    def __init__(self) -> None:
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._guard = threading.Lock()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(SERVER), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={**Cli()._environment(), "PYTHONSAFEPATH": "1"},
                pass_fds=[theirs.fileno()],
            )

    def run(
        self, arguments: list[str], environment: dict[str, str], *, has_reader: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; without a reader, nobody reads its stdout."""
        environment = {**environment, "PYTHONSAFEPATH": "1"}
        asked = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
        pipes = [os.pipe() for _ in range(3)]
        if not has_reader:
            os.close(pipes[0][0])
            pipes[0] = (os.open(os.devnull, os.O_RDONLY), pipes[0][1])
        with self._guard:
            socket.send_fds(self._asking, [json.dumps(asked).encode()], [w for _, w in pipes])
        for _, writing in pipes:
            os.close(writing)
        told = os.fdopen(pipes[2][0], encoding="ascii")
        with ThreadPoolExecutor(2) as pool, told:
            texts = [pool.submit(_read, reading) for reading, _ in pipes[:2]]
            pid = int(told.readline())
            late = threading.Timer(TIMEOUT_S, os.kill, (pid, signal.SIGKILL))
            late.start()
            try:
                stdout, stderr = (text.result() for text in texts)
                code = int(told.readline())
            finally:
                late.cancel()
        return subprocess.CompletedProcess(["continuum", *arguments], code, stdout, stderr)


def _read(descriptor: int) -> str:
    with os.fdopen(descriptor, encoding="utf-8") as file:
        return file.read()


@functools.cache
def _server() -> _Server:
    return _Server()


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the command and everything it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Poll until `condition()`; fails the test when it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def only(folder: Path, pattern: str) -> Path:
    """The one path below `folder` that matches."""
    (found,) = folder.glob(pattern)
    return found
