"""`python -m tests.mutants`: break a copy of the checkout in each known way; its tests must fail.

Exits 1 when a mutant survives, no longer applies, or its tests fail or select nothing without it.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

PROJECT = Path(__file__).parent.parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "*.egg-info", "build")
TIMEOUT_S = 600.0
PASSED, FAILED, HUNG = 0, 1, -1
"""Of pytest's exit codes; others say that no test was run."""


class Checkout:
    """A copy of the project, in which mutants are played one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "checkout"
        shutil.copytree(PROJECT, self._folder, ignore=LEFT_OUT, symlinks=True)
        self._passes = cache(lambda tests: self._pytest(tests) == PASSED)

    def play(self, mutant: Mutant) -> str:
        """`killed` or `survived`, or why it could not be played."""
        path = self._folder / mutant.file
        if not applies(mutant, path):
            return "does not apply"
        if not self._passes(mutant.tests):
            return "its tests do not pass without it"
        with _replaced(path, mutant):
            code = self._pytest(mutant.tests)
        if code in (FAILED, HUNG):
            return "killed"
        return "survived" if code == PASSED else f"pytest ended with exit code {code}"

    def _pytest(self, tests: tuple[str, ...]) -> int:
        options = ("-q", "-x", "-n0", "-p", "no:cacheprovider", "-p", "no:randomly")
        # No .pyc: a file that was replaced within a second by one of its size would stay compiled.
        environment = {
            **os.environ,
            "PYTHONPATH": str(self._folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return HUNG


def applies(mutant: Mutant, path: Path) -> bool:
    """Whether the text to replace is there, once."""
    return path.is_file() and path.read_text(encoding="utf-8").count(mutant.old) == 1


@contextmanager
def _replaced(path: Path, mutant: Mutant) -> Iterator[None]:
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("-k", dest="words", default="", help="only mutants with this in their name")
    words = parser.parse_args().words
    chosen = [mutant for mutant in MUTANTS if words in mutant.name]
    counts = {"killed": 0}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        checkout = Checkout(Path(folder))
        for mutant in chosen:
            begun_at = time.monotonic()
            end = checkout.play(mutant)
            counts[end] = counts.get(end, 0) + 1
            print(f"{end:9} {time.monotonic() - begun_at:5.0f} s  {mutant.name}", flush=True)
    print(", ".join(f"{number} {end}" for end, number in counts.items()))
    return 0 if chosen and counts["killed"] == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
