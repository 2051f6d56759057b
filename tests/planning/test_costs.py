"""What a stage will take: reckoned from how fast earlier runs were, of what is left to do."""

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from continuum.planning.plan import NOTHING_MORE, Request
from tests.commands import Cli, only
from tests.planning.carrying_out import document_of, run

TOKENS_PER_STEP = 2 * 16
OTHER_LR = Request(overrides=("stages.pretrain.optimizer.lr=5e-3",))


@pytest.fixture(scope="module")
def finished(crashed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, carried on to the end, then resumed to step 12."""
    folder = tmp_path_factory.mktemp("finished") / "it"
    shutil.copytree(crashed, folder)
    run(folder).raise_for_failure()
    return folder


def costs_of(folder: Path, request: Request = NOTHING_MORE) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage["cost"] for stage in document_of(folder, request)["stages"]}


def median_speed(folder: Path, stage: str) -> float:
    """Tokens a second, from the run's own rows."""
    lines = only(folder, f"runs/{stage}-*/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return float(statistics.median(row["tokens_per_s"] for row in rows if row.get("tokens_per_s")))


def write_speeds(folder: Path, stage: str, speeds: Sequence[float | None]) -> None:
    path = only(folder, f"runs/{stage}-*/metrics.jsonl")
    rows = [{"step": n, "tokens_per_s": speed} for n, speed in enumerate(speeds, start=1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 99, "tok')


def test_nothing_is_left_of_what_is_reused(finished: Path) -> None:
    document = document_of(finished)
    assert all(stage["cost"] == {} for stage in document["stages"])
    assert (document["total"], document["total_at_most"]) == ({}, {})


def test_seconds_are_tokens_by_the_speed_of_the_latest_run(finished: Path) -> None:
    cost = costs_of(finished, OTHER_LR)["pretrain"]
    assert (cost["steps"], cost["tokens"]) == (8, 8 * TOKENS_PER_STEP)
    assert cost["seconds"] == pytest.approx(cost["tokens"] / median_speed(finished, "pretrain"))
    assert cost["basis"] == only(finished, "runs/pretrain-*").name


def test_the_speed_is_the_median_and_a_line_half_written_is_none(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    write_speeds(folder, "pretrain", [1.0, 100.0, 64.0, None, 64.0, 0.0])
    assert costs_of(folder, OTHER_LR)["pretrain"]["seconds"] == 8 * TOKENS_PER_STEP / 64.0


def test_only_the_last_rows_of_a_long_run_are_read(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    write_speeds(folder, "pretrain", [1.0] * 5000 + [128.0] * 1000)
    assert costs_of(folder, OTHER_LR)["pretrain"]["seconds"] == 8 * TOKENS_PER_STEP / 128.0


def test_a_stage_without_runs_is_as_fast_as_the_model_it_came_from(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    shutil.rmtree(only(folder, "runs/longer-*"))
    write_speeds(folder, "pretrain", [32.0])
    cost = costs_of(folder)["longer"]
    assert (cost["steps"], cost["tokens"], cost["seconds"]) == (4, 4 * TOKENS_PER_STEP, 4.0)
    assert cost["basis"] == only(folder, "runs/pretrain-*").name


def test_without_any_run_no_time_is_invented(crashed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(crashed, folder)
    shutil.rmtree(folder / "runs")
    for cost in costs_of(folder).values():
        assert not {"seconds", "basis"} & cost.keys()


def test_a_recovery_counts_what_is_left(crashed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(crashed, folder)
    write_speeds(folder, "pretrain", [32.0])
    whole = costs_of(folder, Request(rerun=frozenset({"pretrain"})))["pretrain"]
    left = costs_of(folder)["pretrain"]
    assert (whole["steps"], whole["tokens"], whole["seconds"]) == (8, 8 * TOKENS_PER_STEP, 8.0)
    assert (left["steps"], left["tokens"], left["seconds"]) == (4, 4 * TOKENS_PER_STEP, 4.0)
    assert left["flops"] == round(whole["flops"] / 2)


def test_a_recovered_extension_counts_from_its_own_steps(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (run_folder,) = folder.glob("runs/longer-*")
    (run_folder / "artifact.json").unlink()
    shutil.rmtree(run_folder / "checkpoints" / "step-00000012")
    cost = costs_of(folder)["longer"]
    assert (cost["steps"], cost["tokens"]) == (2, 2 * TOKENS_PER_STEP), "from step 10 to 12"


def test_a_stage_without_tokens_takes_as_long_as_it_took(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (run_folder,) = folder.glob("runs/tokenizer-*")
    attempts = [
        {"event": "started", "attempt": 1, "at": "2026-01-01T00:00:00.000+00:00"},
        {"event": "ended", "attempt": 1, "at": "2026-01-01T00:00:09.000+00:00", "status": "failed"},
        {"event": "started", "attempt": 2, "at": "2026-01-01T10:00:00.000+00:00"},
        {"event": "ended", "attempt": 2, "at": "2026-01-01T10:00:02.500+00:00", "status": "done"},
    ]
    lines = (json.dumps(attempt) + "\n" for attempt in attempts)
    (run_folder / "attempts.jsonl").write_text("".join(lines))
    cost = costs_of(folder, Request(overrides=("stages.tokenizer.min_frequency=3",)))["tokenizer"]
    assert (cost["seconds"], cost["basis"]) == (2.5, run_folder.name)


def test_totals_hold_what_is_sure_and_what_may_be(finished: Path) -> None:
    document = document_of(finished, Request(rerun=frozenset({"pretrain"})))
    costs = {s["name"]: (s["action"], s["cost"]) for s in document["stages"]}
    assert (costs["pretrain"][0], costs["longer"][0]) == ("run", "check")
    assert document["total"]["tokens"] == 8 * TOKENS_PER_STEP
    assert document["total_at_most"]["tokens"] == 12 * TOKENS_PER_STEP
    seconds = sum(cost["seconds"] for _, cost in costs.values() if "seconds" in cost)
    assert document["total_at_most"]["seconds"] == pytest.approx(seconds)


def test_people_read_the_totals_too(finished: Path, cli: Cli) -> None:
    told = cli("plan", finished, "--rerun", "pretrain").stdout
    (line,) = (line for line in told.splitlines() if line.startswith("to do: "))
    assert "256 training tokens" in line
    assert "; at most 384 training tokens" in line
    assert "at the speed of earlier runs" in line
