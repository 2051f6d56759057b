"""Whole commands as processes: how long they take and how much memory they need."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Measured:
    """One process, from start to end."""

    wall_s: float
    cpu_s: float
    """Of it and all its children, user and system."""
    peak_bytes: int
    """The largest resident set among it and its children."""
    stdout: str


def measure(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    expect: int = 0,
) -> Measured:
    """Run a command to its end.

    Raises:
        RuntimeError: it ended with another exit code than `expect`; with what it printed.
    """
    # Bytecode is kept, as it is by an installed package: everyone's, not only the peers'.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    # A helper process, whose children are only this command's: getrusage sums over all of them.
    probe = [sys.executable, "-m", "tests.benchmarks.probe", *map(str, command)]
    done = subprocess.run(
        probe,
        cwd=cwd or ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    figures = done.stderr.rsplit("\n", 2)[-2].split() if done.stderr.endswith("\n") else []
    if len(figures) != 5 or figures[0] != "probe:" or int(figures[4]) != expect:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return Measured(float(figures[1]), float(figures[2]), int(figures[3]), done.stdout)


def wall_s(command: Sequence[str | Path], **kwargs: object) -> float:
    """Seconds that a command takes."""
    return measure(command, **kwargs).wall_s  # type: ignore[arg-type]


def continuum(*arguments: str | Path) -> list[str]:
    """Our command line in this environment."""
    return [str(Path(sys.executable).with_name("continuum")), *map(str, arguments)]


def now() -> float:
    """Seconds of a clock that only goes forward."""
    return time.perf_counter()
