"""The pictures of the README: a terminal in which the quickstart is killed and run again.

`python -m tests.picture` types the commands into a real shell, in terminals of two widths, and
draws what they show as `.github/run-wide.svg` and `.github/run-narrow.svg`, in a few minutes.
"""

import copy
import fcntl
import io
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
WIDTHS = {"wide": 96, "narrow": 48}
SHELL = ("bash", "--norc", "--noprofile", "--noediting")
PROMPT = "$ "
MAX_SECONDS = 600.0
_CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b[()][AB0]|[\r\n\a\b]|[^\x00-\x1f\x7f]")
_UNFINISHED = re.compile(r"\x1b(\[[?\d;]*|[()])?$")


class Screen:
    """What a terminal of some width shows: the few control sequences that bash and rich write."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._style = ""
        self._rest = ""
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, written: bytes) -> None:
        """Take what a program writes; a character or a sequence may come in two pieces."""
        text = self._rest + self._decoder.decode(written)
        unfinished = _UNFINISHED.search(text)
        self._rest = unfinished[0] if unfinished else ""
        text = text.removesuffix(self._rest)
        for found in _CONTROL.finditer(text):
            if found[2]:
                self._sequence(found[1], found[2])
            elif found[0] == "\n":
                self._down()
            elif found[0] == "\r":
                self._column = 0
            elif found[0] == "\b":
                self._column = max(0, self._column - 1)
            elif found[0].isprintable():
                self._put(found[0])

    def lines(self) -> list[str]:
        """The rows from the top, with the sequences that colour them."""
        rows = ["".join(_runs(row)).rstrip() for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def text(self) -> str:
        """The rows without colours."""
        return "\n".join("".join(char for _, char in row).rstrip() for row in self._rows)

    def _put(self, char: str) -> None:
        if self._column == self._width:
            self._column = 0
            self._down()
        row = self._rows[self._row]
        row.extend([("", " ")] * (self._column + 1 - len(row)))
        row[self._column] = (self._style, char)
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append([])

    def _sequence(self, numbers: str, letter: str) -> None:
        first = int(numbers) if numbers.isdigit() else 0
        if letter == "m":
            self._style = (
                "" if first == 0 and numbers in ("", "0") else self._style + f"\x1b[{numbers}m"
            )
        elif letter == "A":
            self._row = max(0, self._row - (first or 1))
        elif letter == "K" and first == 2:
            self._rows[self._row] = []
        elif letter == "K":
            del self._rows[self._row][self._column :]


def _runs(row: list[tuple[str, str]]) -> Iterator[str]:
    """The pieces of a row that have one style, each after the sequences that set it."""
    for style, chars in groupby(row, key=lambda item: item[0]):
        yield f"\x1b[0m{style}" + "".join(char for _, char in chars)


class Terminal:
    """A shell in a terminal of its own, and its screen."""

    def __init__(self, folder: Path, width: int) -> None:
        self.screen = Screen(width)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, width, 0, 0))
        environment = {**os.environ, "PS1": PROMPT, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "NO_COLOR", "LINES"):
            environment.pop(name, None)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self._shell = subprocess.Popen(
            SHELL,
            cwd=folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        self.wait(self.is_prompting)
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        os.close(self._master)

    def type(self, line: str) -> None:
        """Type a command and the return key."""
        os.write(self._master, f"{line}\n".encode())

    def run(self, line: str) -> None:
        """Type a command and wait for the next prompt."""
        before = self.screen.text().count("\n")
        self.type(line)
        self.wait(lambda: self.screen.text().count("\n") > before and self.is_prompting())

    def kill(self) -> None:
        """Send SIGKILL to the command in the foreground, and wait for the next prompt."""
        self.wait(lambda: os.tcgetpgrp(self._master) != self._shell.pid)
        os.kill(os.tcgetpgrp(self._master), signal.SIGKILL)
        self.wait(self.is_prompting)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Show what the programs write until `condition` holds."""
        end = time.monotonic() + MAX_SECONDS
        while not condition():
            assert time.monotonic() < end, f"waited in vain:\n{self.screen.text()}"
            if select.select([self._master], [], [], 0.05)[0]:
                self.screen.feed(os.read(self._master, 1 << 16))

    def is_prompting(self) -> bool:
        """True if the shell waits for a command."""
        return self.screen.text().rpartition("\n")[2] == PROMPT.rstrip()


def draw(screen: Screen, width: int) -> str:
    """The screen as an SVG."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for line in screen.lines():
        console.print(Text.from_ansi(line), soft_wrap=True)
    return console.export_svg(title="continuum")


def record(folder: Path, width: int) -> Screen:
    """Run the experiment in `folder`, kill it, run it again; the screen when it retrains."""
    command = f"continuum run {folder.name}"
    checkpoints = "runs/pretrain-*/checkpoints/*/manifest.json"
    with Terminal(folder.parent, width) as terminal:
        screen = terminal.screen
        terminal.type(command)
        terminal.wait(lambda: len([*folder.glob(checkpoints)]) >= 2)
        terminal.kill()
        terminal.run("# kill -9, and the same command again")
        terminal.run(f"continuum plan {folder.name} --why pretrain")
        terminal.type(command)
        terminal.wait(lambda: "\nretrain: step 25" in screen.text())
        shown = copy.deepcopy(screen)
        terminal.wait(terminal.is_prompting)
    return shown


def main(out: Path, spec: Path) -> None:
    """Write both pictures of `spec`, the path of an experiment's folder, to the folder `out`."""
    for name, width in WIDTHS.items():
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / spec.name
            copied.mkdir()
            shutil.copy(spec / "experiment.yaml", copied)
            (out / f"run-{name}.svg").write_text(
                draw(record(copied, width), width), encoding="utf-8"
            )


if __name__ == "__main__":
    main(ROOT / ".github", ROOT / "experiments" / "quickstart")
