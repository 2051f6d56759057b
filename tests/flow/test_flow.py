"""The whole flow, as a user runs it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Cli, kill_group, only, wait_until
from tests.experiments import FIRST_STAGES, small_flow


@pytest.fixture(scope="module")
def finished(run_once: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small flow after a run; tests read it or copy it."""
    return shutil.copytree(run_once(small_flow()), tmp_path_factory.mktemp("flow") / "finished")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished flow in a folder of its own."""
    target = tmp_path / "moved" / "here"
    shutil.copytree(finished, target)
    return target


def rows(folder: Path, stage: str) -> list[dict[str, float]]:
    path = only(folder, f"runs/{stage}-*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_stage_is_complete_and_the_loss_falls(finished: Path) -> None:
    assert len(list(finished.glob("runs/*/artifact.json"))) == 9
    for stage in ("pretrain", "retrain"):
        losses = [row["loss"] for row in rows(finished, stage) if "loss" in row]
        assert sum(losses[-3:]) / 3 < sum(losses[:3]) / 3 - 0.3


def test_a_second_run_reuses_everything(finished: Path, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("artifact.json")}
    assert cli("run", finished).stdout.count(" reused ") == 9
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("artifact.json")} == before


def test_a_moved_folder_is_reused(copied: Path, cli: Cli) -> None:
    assert cli("run", copied).stdout.count(" reused ") == 9


def test_no_record_holds_an_absolute_path(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml") and path.is_file():
            assert str(finished) not in path.read_text(encoding="utf-8"), path


def test_a_changed_field_runs_that_stage_and_all_below_it(copied: Path, cli: Cli) -> None:
    planned = cli("plan", copied, "--set", "stages.longer.schedule.to=1e-4").stdout
    running = {line.split()[0] for line in planned.splitlines() if "  run  " in line}
    assert running == {"longer", "weights", "retrain"}
    assert "schedule.to changed: 0.0 -> 0.0001" in " ".join(planned.split())


def test_runtime_comments_and_spelling_change_nothing(copied: Path, cli: Cli) -> None:
    text = (copied / "experiment.yaml").read_text()
    text = text.replace("micro_batch_size: 4", "micro_batch_size: 0x2 # smaller")
    text = text.replace("lr: 0.005", "lr: 5.0e-3").replace("max_steps: 20", "max_steps: 0.02k")
    (copied / "experiment.yaml").write_text("# reviewed\n" + text)
    assert cli("run", copied).stdout.count(" reused ") == 9


def test_lineage_leads_from_the_end_to_the_sources(finished: Path, cli: Cli) -> None:
    tree = cli("lineage", finished).stdout
    positions = [
        tree.index(words)
        for words in (
            "retrain@step-12  training checkpoint  3,072 tokens, 10,752 in total",
            "derived weights  model weights",
            "derived longer@step-30  training checkpoint  7,680 tokens",
            "derived pretrain@step-20  training checkpoint  5,120 tokens",
        )
    ]
    assert positions == sorted(positions)
    assert "pydoc_data/topics.py  source" in tree


def test_lineage_json_has_digests_and_both_ends_of_every_edge(finished: Path) -> None:
    graph = json.loads((finished / "lineage.json").read_text())
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert all(len(n["sha256"]) == 64 for n in nodes.values() if n["type"] != "run")
    assert {edge["relation"] for edge in graph["edges"]} == {"used", "generated", "derived"}
    assert all(edge["source"] in nodes and edge["target"] in nodes for edge in graph["edges"])
    runs = [node for node in nodes.values() if node["type"] == "run"]
    assert {run["facts"]["device"] for run in runs if run["facts"]["device"]} == {"cpu"}
    assert all(run["facts"]["versions"]["litgpt"] for run in runs)


def test_a_node_can_be_found_by_the_start_of_its_digest(finished: Path, cli: Cli) -> None:
    graph = json.loads((finished / "lineage.json").read_text())
    digest = next(n["sha256"] for n in graph["nodes"] if n["type"] == "model weights")
    assert cli("lineage", finished, digest[:10]).stdout.startswith("weights  model weights")
    assert "did you mean 'weights'" in cli("lineage", finished, "wieghts", expect=2).stderr


def test_status_tells_progress_without_running(finished: Path, cli: Cli) -> None:
    assert cli("status", finished).stdout.count("complete") == 9


def test_a_damaged_artifact_is_made_again(copied: Path, cli: Cli) -> None:
    weights = only(copied, "runs/weights-*/output/lit_model.pth")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert "damaged" in " ".join(cli("plan", copied).stdout.split())
    cli("run", copied)
    assert only(copied, "runs/weights-*/output/lit_model.pth").read_bytes() == whole
    assert list(copied.glob("runs/.archive/weights-*"))


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.0, 0.5], ids=["its head", "a tensor"])
def test_weights_are_not_made_of_a_damaged_checkpoint(place: float, copied: Path, cli: Cli) -> None:
    shutil.rmtree(only(copied, "runs/weights-*"))
    checkpoint = only(copied, "runs/longer-*/output/lit_model.pth")
    content = bytearray(checkpoint.read_bytes())
    content[int(place * len(content))] ^= 1
    checkpoint.write_bytes(content)
    told = cli("run", copied, expect=8).stderr
    assert f"longer: {checkpoint.parent} is corrupt: lit_model.pth" in " ".join(told.split())
    assert not list(copied.glob("runs/weights-*/artifact.json"))


def test_the_second_of_two_writers_is_told_about_the_first(
    experiment: Callable[..., Path], cli: Cli
) -> None:
    path = experiment(only=FIRST_STAGES, pretrain__max_steps=100_000)
    first = cli.start("run", path)
    try:
        wait_until(lambda: (path.parent / "runs/.owner.json").exists())
        second = cli("run", path, expect=7)
        assert f"in use by process {first.pid}" in second.stderr
    finally:
        kill_group(first)
