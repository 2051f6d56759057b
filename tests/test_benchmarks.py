"""The benchmarks' own rules: verdicts, regressions, failures and documents."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from continuum.experiment.architecture import architecture
from tests.benchmarks import __main__ as benchmarks_main
from tests.benchmarks import bench_gpu
from tests.benchmarks.baseline import Baseline
from tests.benchmarks.bench_limit import limit_row
from tests.benchmarks.quiet import Quiet, watched
from tests.benchmarks.rows import Row, Setting, in_turns

ROW = Row("speed/plan", "plan", "dvc", 2.0, 1.0, "s", 0.5)
ROOT = Path(__file__).parents[1]


def benchmarks(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)


@pytest.mark.parametrize(
    ("ours", "target", "more_is_better", "is_met"),
    [(1.0, 0.5, False, True), (1.1, 0.5, False, False), (1.0, 0.5, True, True),
     (0.9, 0.5, True, False)],
)  # fmt: skip
def test_a_target_is_met_up_to_the_very_ratio(
    ours: float, target: float, more_is_better: bool, is_met: bool
) -> None:
    row = replace(ROW, ours_value=ours, target=target, more_is_better=more_is_better)
    assert row.is_met is is_met


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (replace(ROW, ours_value=1.2), []),
        (replace(ROW, ours_value=1.3), ["speed/plan: the ratio is 0.65, 0.5 is stored"]),
        (replace(ROW, ours_value=1.3, is_absolute=True), []),
        (replace(ROW, ours_value=1.3, more_is_better=True), []),
        (replace(ROW, ours_value=0.7, more_is_better=True),
         ["speed/plan: the ratio is 0.35, 0.5 is stored"]),
        (replace(ROW, name="new", ours_value=9.0), []),
    ],
    ids=["within", "worse", "absolute", "higher", "lower", "unknown"],
)  # fmt: skip
def test_a_regression_is_a_ratio_worse_by_a_quarter(
    tmp_path: Path, row: Row, told: list[str]
) -> None:
    Baseline(tmp_path / "baseline.json", quick=True).store([ROW])
    assert Baseline(tmp_path / "baseline.json", quick=True).regressions([row]) == told
    assert Baseline(tmp_path / "baseline.json", quick=False).regressions([row]) == []


def test_storing_keeps_the_other_rows_and_leaves_limits_out(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    Baseline(path, quick=False).store([replace(ROW, name="a")])
    Baseline(path, quick=True).store([replace(ROW, name="b"), replace(ROW, is_absolute=True)])
    assert json.loads(path.read_text()) == {"full": {"a": 0.5}, "quick": {"b": 0.5}}


@pytest.mark.parametrize(
    ("more_is_better", "stored"), [(False, [0.5, 0.6, 0.6]), (True, [0.5, 0.5, 0.4])]
)
def test_the_worse_of_several_runs_may_be_kept(
    tmp_path: Path, more_is_better: bool, stored: list[float]
) -> None:
    path = tmp_path / "baseline.json"
    found = []
    for ours in (1.0, 1.2, 0.8):
        row = replace(ROW, ours_value=ours, more_is_better=more_is_better)
        Baseline(path, quick=True).store([row], keep_worse=True)
        found.append(json.loads(path.read_text())["quick"][ROW.name])
    assert found == stored


NOISY = Quiet(load_before=3.0, load_after=4.0, stolen=0.3, others=0.5)


def test_load_decides_nothing_about_a_row_that_needs_a_quiet_machine(tmp_path: Path) -> None:
    noisy = replace(ROW, ours_value=9.0, quiet=NOISY)
    assert noisy.verdict == "not quiet: no verdict"
    assert noisy.as_json()["is_met"] is None
    baseline = Baseline(tmp_path / "baseline.json", quick=True)
    baseline.store([ROW])
    baseline.store([noisy])
    assert baseline.regressions([noisy]) == []
    assert baseline.regressions([replace(noisy, quiet=None)]) != []
    quiet = replace(ROW, ours_value=1.1, quiet=replace(NOISY, stolen=0.0, others=0.05))
    assert quiet.verdict == "MISSED"
    assert noisy.better_of(quiet) is quiet.better_of(noisy) is quiet
    assert str(NOISY) == "not quiet: load 3.0 to 4.0, stolen 30.0%, others 50.0%"


def test_a_machine_on_which_others_compute_is_not_quiet() -> None:
    """Children that were waited for are the benchmark's own; those that go on are others."""
    burn = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(burn) for _ in range(os.cpu_count() or 1)]
    try:
        with watched() as watch:
            time.sleep(1.0)
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert not watch.quiet.is_quiet
    if watch.quiet.others is not None:
        assert watch.quiet.others > 0.5


def test_the_limit_is_the_rate_of_the_models_own_products(tmp_path: Path) -> None:
    setting = Setting(tmp_path, quick=True, peers_dir=tmp_path, rounds=1)
    row = limit_row(setting, "pythia-14m", 16, rounds=1)
    assert row.unit == "GFLOP/s"
    assert 0 < row.ratio < 1.5
    assert row.quiet is not None


def test_measurements_take_turns_and_the_first_of_each_does_not_count() -> None:
    called: list[str] = []

    def clock(name: str, *values: float) -> Callable[[], float]:
        left = iter(values)

        def measure() -> float:
            called.append(name)
            return next(left)

        return measure

    found = in_turns([clock("a", 100, 1, 2, 9), clock("b", 200, 3, 4, 5)], rounds=3)
    assert (found, "".join(called)) == ([2, 4], "abab" + "ba" + "ab")


@pytest.mark.slow
def test_without_a_gpu_its_benchmark_says_so_and_yields_nothing() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    done = benchmarks("--quick", "--json", "--only", "gpu")
    assert done.returncode == 0
    assert "gpu: no CUDA device here, so nothing is measured" in done.stderr
    assert json.loads(done.stdout)["rows"] == []


@pytest.mark.slow
def test_what_the_gpu_is_measured_with_trains_on_the_cpu_too(tmp_path: Path) -> None:
    training = replace(
        bench_gpu.COMMON,
        accelerator="cpu",
        copies=1,
        log_every=2,
        sequence_length=32,
        global_batch=4,
        micro_batch=2,
    )
    theirs, ours = bench_gpu.train(training, tmp_path, rounds=2)
    assert [turn.what for turn in (*theirs, *ours)] == ["train"] * 4
    turns = [replace(turn, device_bytes=5) for turn in theirs]
    speed, memory = bench_gpu.rows_of(training, turns, [replace(t, wall_s=1) for t in turns], 1e12)
    flops = architecture("pythia-14m").training_flops_per_token(32)
    assert speed.ours_value == training.tokens_per_turn == 32 * 4 * 2
    assert flops is not None
    assert speed.note.startswith(f"MFU {256 * flops / 1e12:.1%} against ")
    assert (memory.name, memory.ratio) == ("gpu/pythia-14m-32-true-memory", 1.0)


def test_turns_after_each_other_measure_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["help", "hashing", "folder", "flow", "loop"]
    assert benchmarks_main.whose_turn(names, 1, None) == names
    dealt = [benchmarks_main.whose_turn(names, 2, turn) for turn in (6, 7)]
    assert sorted(dealt[0] + dealt[1]) == sorted(names)
    assert "one share of 2: --turn 1" in capsys.readouterr().err


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    done = benchmarks("--only", "hashing", "hasching")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "no benchmark hasching; there are:"
    assert {"help", "chain-dvc", "folder", "hashing"} <= set(done.stderr.splitlines())


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_is_a_failure_and_the_other_rows_stand(
    tmp_path: Path,
) -> None:
    done = benchmarks(
        *("--quick", "--json", "--only", "chain-snakemake", "hashing"),
        TMPDIR=str(tmp_path),
        PIP_NO_INDEX="1",
    )
    assert done.returncode == 1
    assert "chain-snakemake: RuntimeError: snakemake cannot be installed: " in done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["quick"]) == ("continuum.benchmarks/1", True)
    (row,) = document["rows"]
    assert row["ratio"] == row["ours_value"] / row["reference_value"] > 0
    assert (row["name"], row["unit"], row["target"]) == ("hashing", "s", 1.15)
    assert row["is_met"] == (row["ratio"] <= 1.15)
    assert (row["verdict"] in ("met", "MISSED"), row["quiet"]) == (True, None)


@pytest.mark.slow
def test_a_row_that_got_worse_is_measured_again_and_fails_the_check(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"quick": {"hashing": 0.01}, "full": {}}))
    done = benchmarks("--quick", "--check", "--only", "hashing", "--baseline", baseline)
    assert done.returncode == 1
    assert done.stderr.count("hashing: ") == 3, done.stderr  # measured twice, and told
    assert ", 0.01 is stored" in done.stderr
    assert "hashing while writing" in done.stdout


@pytest.mark.slow
def test_a_check_passes_on_what_was_just_stored(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"quick": {"hashing": 1000.0}, "full": {"hashing": 0.01}}))
    done = benchmarks("--quick", "--check", "--store", "--only", "hashing", "--baseline", baseline)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(baseline.read_text())["quick"]["hashing"] < 100
    assert json.loads(baseline.read_text())["full"] == {"hashing": 0.01}
