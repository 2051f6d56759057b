"""Killed at random moments, many times over: `pytest -m kill`, `--kill-rounds 200` in full.
`--seed` chooses the moments.

Each round starts the run and kills the worker or everything with -9: at a random moment, or (two of
three rounds) as soon as something is being written or published. A finished run is begun anew.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Cli, kill_group, only, wait_until
from tests.recovery.test_kill import (
    final_weights,
    losses,
    prepared,
    unbroken,
    workers_of,
)

__all__ = ["prepared", "unbroken"]
LONGEST_S = 8.0
MOMENTS = {
    "while a checkpoint was written": "checkpoints/.step-*.tmp/lit_model.pth",
    "while a checkpoint was published": "checkpoints/.step-*.tmp/manifest.json",
    "while a checkpoint was deleted": "checkpoints/.step-*.deleted.tmp",
    "while the artifact was published": "output/*",
}
"""What is there for some milliseconds, by its path in the run folder."""


def kill_once(folder: Path, rng: random.Random, counts: Counter[str]) -> None:
    """Start the run and kill something of it, or let it end if it is faster."""
    process = Cli().start("run", folder)
    wait_for_the_moment(process, folder, rng, counts)
    workers = workers_of(process.pid)
    if workers and rng.random() < 0.5 and process.poll() is None:
        os.kill(workers[0], signal.SIGKILL)
        counts["worker"] += 1
        process.communicate(timeout=60)
    elif process.poll() is None:
        kill_group(process)
        counts["everything"] += 1
    else:
        process.communicate()
        counts["ended first"] += 1


def wait_for_the_moment(
    process: subprocess.Popen[str], folder: Path, rng: random.Random, counts: Counter[str]
) -> None:
    """Wait for something short-lived and then a little, or a while without a reason."""
    moment = rng.choice([*MOMENTS, *MOMENTS, *["at any time"] * len(MOMENTS)])
    pattern = f"runs/pretrain-*/{MOMENTS.get(moment)}"
    end = time.monotonic() + (4 * LONGEST_S if moment in MOMENTS else rng.uniform(1.0, LONGEST_S))
    skipped = rng.randrange(6)
    while time.monotonic() < end and process.poll() is None:
        if moment in MOMENTS and list(folder.glob(pattern)):
            skipped -= 1
            if skipped < 0:
                counts[moment] += 1
                return
        time.sleep(0.001)


def attempts_of(folder: Path) -> list[dict[str, Any]]:
    lines = only(folder, "runs/pretrain-*/attempts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.kill
@pytest.mark.timeout(3600)
def test_kills_at_random_moments_change_nothing(
    unbroken: Path, prepared: Path, request: pytest.FixtureRequest, seed: int
) -> None:
    rounds = request.config.getoption("--kill-rounds")
    rng, counts = random.Random(f"kills {seed}"), Counter[str]()
    for _ in range(rounds):
        kill_once(prepared, rng, counts)
        if list(prepared.glob("runs/pretrain-*/artifact.json")):
            check_end(unbroken, prepared, counts)
            shutil.rmtree(only(prepared, "runs/pretrain-*"))
    Cli()("run", prepared)
    check_end(unbroken, prepared, counts)
    print(f"\n{rounds} rounds: {dict(sorted(counts.items()))}")
    assert counts["torn loads"] == 0


def is_owned_by(folder: Path, pid: int) -> bool:
    return f'"pid": {pid},' in (folder / "runs/.owner.json").read_text()


@pytest.mark.kill
@pytest.mark.timeout(3600)
def test_stops_at_random_moments_lose_no_step(
    unbroken: Path, prepared: Path, request: pytest.FixtureRequest, seed: int
) -> None:
    rounds = request.config.getoption("--kill-rounds")
    rng, counts = random.Random(f"stops {seed}"), Counter[str]()
    for _ in range(rounds):
        process = Cli().start("run", prepared)
        wait_until(partial(is_owned_by, prepared, process.pid))
        time.sleep(rng.uniform(0.0, LONGEST_S))
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
        assert process.returncode in (75, 0), told
        counts[f"exit {process.returncode}"] += 1
        if list(prepared.glob("runs/pretrain-*/artifact.json")):
            check_end(unbroken, prepared, counts)
            shutil.rmtree(only(prepared, "runs/pretrain-*"))
        elif steps := [step for step, *_ in losses(prepared)]:
            newest = max(prepared.glob("runs/pretrain-*/checkpoints/step-*"))
            assert newest.name == f"step-{steps[-1]:08d}"
    print(f"\n{rounds} stops: {dict(sorted(counts.items()))}")
    assert counts["torn loads"] == 0


def check_end(unbroken: Path, folder: Path, counts: Counter[str]) -> None:
    """The finished run is the unbroken one's equal, and its records tell of every attempt."""
    assert final_weights(folder) == final_weights(unbroken)
    assert losses(folder) == losses(unbroken)
    told = attempts_of(folder)
    started = [line["attempt"] for line in told if line["event"] == "started"]
    assert started == list(range(1, len(started) + 1))
    counts["finished runs, equal to the unbroken one"] += 1
    counts["attempts recorded"] += len(started)
    counts["recovered from a checkpoint"] += sum(line["event"] == "recovered" for line in told)
    counts["torn loads"] += sum(line["event"] == "checkpoint_passed_over" for line in told)
