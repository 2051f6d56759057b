"""The GPU's part, played on the CPU at the size of a toy: its code is not new to the first GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.commands import ROOT
from tests.gpu import __main__ as command
from tests.gpu.parts import ORDER, load_parts


def play(folder: Path, *arguments: str, expect: int = 0, **variables: str) -> dict[str, Any]:
    """What `python -m tests.gpu` leaves in the folder of its state."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu", *arguments, "--device", "cpu", "--state", str(folder)],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    log = folder / "log.txt"
    assert done.returncode == expect, done.stdout + done.stderr + log.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def script(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != command.DEVICE_VARIABLE}
    return subprocess.run(
        [ROOT / ".ci" / "gpu"],
        env={**environment, "PYTHON": sys.executable, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", ORDER)
def test_each_part_plays_on_the_cpu(part: str, tmp_path: Path) -> None:
    (result,) = play(tmp_path, part).values()
    assert result["status"] == "passed"
    assert result["figures"]


def test_every_part_has_its_place_in_the_order() -> None:
    assert tuple(load_parts()) == ORDER


def test_a_call_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    state = command.State(tmp_path)
    for name in ORDER[:-1]:
        state.add(name, {"status": "passed", "figures": {}, "took_s": 1.0})
    state.add("head", {"status": "failed", "message": "the gradients: …", "took_s": 2.0})
    again = command.State(tmp_path)
    assert again.has_failed
    assert not command.play_all(again, [], "cpu", limit_s=0.0)
    assert [line.split()[0] for line in again.text().splitlines()] == list(ORDER[:-1])
    assert "failed" in (tmp_path / "results.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_part_that_is_cut_off_is_begun_anew_by_the_next_call(tmp_path: Path) -> None:
    found = play(tmp_path, "--limit-s", "45", "versions", "benchmark-1b", expect=75)
    assert found.keys() == {"versions"}


def test_without_a_gpu_the_script_says_so_and_ends_well(tmp_path: Path) -> None:
    if any(Path("/dev").glob("nvidia[0-9c]*")):
        pytest.skip("a GPU is here")
    done = script(OUT=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "no CUDA device is here, so nothing is played\n"
    assert not list(tmp_path.iterdir())
