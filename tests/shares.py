"""Shares of the long tests and benchmarks, which take turns: another one at each commit.

`python -m tests.shares` prints the turn of this commit, which `pytest --one-in 20 --turn …` and
`python -m tests.benchmarks --one-in 4 --turn …` take.
"""

import json
import statistics
import subprocess
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS_FILE = Path(__file__).with_name("seconds.json")
"""How long each long test and quick benchmark took when it was last stored."""
UNKNOWN_S = 30.0
SLACK = 0.1
"""By how much a share may be longer than the mean."""
SECONDS_A_DAY = 86_400


def current_turn(checkout: Path = ROOT) -> int:
    """The number of commits up to this one; days since 1970 where Git does not know it."""
    commands = (["rev-parse", "--is-shallow-repository"], ["rev-list", "--count", "HEAD"])
    try:
        is_shallow, num_commits = (_git(checkout, *command) for command in commands)
    except (OSError, subprocess.CalledProcessError):
        is_shallow, num_commits = "true", ""
    return int(time.time() // SECONDS_A_DAY) if is_shallow == "true" else int(num_commits)


def share(names: Iterable[str], one_in: int, turn: int, seconds: Mapping[str, float]) -> set[str]:
    """The names whose turn it is. `one_in` turns after each other have all of them, each once.

    Shares take about the same time, and a new test moves few others to another share: a name's
    checksum says where it goes, and where that share is full, it goes to the next.
    """
    lengths = {name: seconds.get(_function(name), UNKNOWN_S) for name in names}
    full = (1 + SLACK) * max(sum(lengths.values()) / one_in, max(lengths.values(), default=0.0))
    shares: list[set[str]] = [set() for _ in range(one_in)]
    totals = [0.0] * one_in
    for name in sorted(lengths, key=lambda name: (-lengths[name], name)):
        first = zlib.crc32(name.encode())
        tried = [(first + step) % one_in for step in range(one_in)]
        has_room = (number for number in tried if totals[number] + lengths[name] <= full)
        chosen = next(has_room, totals.index(min(totals)))
        shares[chosen].add(name)
        totals[chosen] += lengths[name]
    return shares[turn % one_in]


def stored_seconds(path: Path = SECONDS_FILE) -> dict[str, float]:
    """What was stored, by a benchmark's name or a test's, without its parameters."""
    stored: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return stored


def store_seconds(measured: Mapping[str, float], path: Path = SECONDS_FILE) -> None:
    """Replace what was measured, the mean of a test's parameters; drop tests whose file is gone."""
    by_function: dict[str, list[float]] = {}
    for name, s in measured.items():
        by_function.setdefault(_function(name), []).append(s)
    stored = stored_seconds(path) if path.exists() else {}
    kept = {name: s for name, s in stored.items() if _has_file(name)}
    kept |= {name: float(f"{statistics.mean(s):.2g}") for name, s in by_function.items()}
    path.write_text(json.dumps(kept, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def _function(name: str) -> str:
    return name.partition("[")[0]


def _has_file(name: str) -> bool:
    file, separator, _ = name.partition("::")
    return not separator or (ROOT / file).exists()


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    print(current_turn())
