"""An experiment folder that an earlier commit wrote is planned, resumed, verified and shown.

`folder_of_2026_11_29.tar.xz` has every kind of the main flow: nine stages are complete,
`interrupted` was stopped after step 109 of 400. Beside the runs lie its lock, its lineage and a
saved plan.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.runs.provenance import package_versions
from tests.commands import Cli

STORED = Path(__file__).parent / "folder_of_2026_11_29.tar.xz"
LOSS_AT_THE_END = 1.524  # of an unbroken run, by the commit that wrote the folder
INTERRUPTED = "interrupted"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The folder as it was written."""
    with tarfile.open(STORED) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "old"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def plan_of(cli: Cli, folder: Path) -> dict[str, dict[str, Any]]:
    """What `continuum plan --json` says of each stage."""
    document = json.loads(cli("plan", folder, "--json").stdout)
    return {stage["name"]: stage for stage in document["stages"]}


def test_complete_stages_are_reused_and_the_interrupted_one_is_resumed(
    stored: Path, cli: Cli
) -> None:
    planned = plan_of(cli, stored)
    assert {name: it["action"] for name, it in planned.items()} == {
        name: "recover" if name == INTERRUPTED else "reuse" for name in planned
    }
    assert "step 109" in json.dumps(planned[INTERRUPTED])


def test_fingerprints_seeds_and_folders_are_those_of_the_saved_plan(stored: Path, cli: Cli) -> None:
    now = plan_of(cli, stored)
    for then in read_json(stored / "plan.json")["stages"]:
        for field in ("fingerprint", "seed", "run", "version"):
            assert now[then["name"]].get(field) == then.get(field), (then["name"], field)


def test_the_folder_verifies_and_shows_its_lineage(stored: Path, cli: Cli) -> None:
    cli("verify", stored)
    shown = cli("lineage", stored).stdout
    for name in ("book", "tokenizer", "notes.txt", "weights", "longer@step-12", "retrain"):
        assert name in shown, name
    then, now = (stored / "lineage.json").read_text(encoding="utf-8"), cli("status", stored)
    assert "step 109/400" in now.stdout
    cli("plan", stored)
    assert (stored / "lineage.json").read_text(encoding="utf-8") == then


def test_a_status_has_the_metrics_of_artifacts_and_of_rows(stored: Path, cli: Cli) -> None:
    lock = yaml.safe_load((stored / "continuum.lock").read_text(encoding="utf-8"))
    document = json.loads(cli("status", stored, "--json").stdout)
    metrics = {stage["name"]: stage["metrics"] for stage in document["stages"]}
    locked = lock["stages"]["retrain"]["metrics"]
    assert metrics["retrain"] == pytest.approx(locked, abs=1e-5)
    assert metrics["interrupted"]["step"] > 100
    assert metrics["book"] == {}


@pytest.mark.slow
def test_the_saved_plan_is_carried_out(stored: Path, cli: Cli) -> None:
    reused = sorted((stored / "runs").glob("*/artifact.json"))
    before = [path.read_bytes() for path in reused]
    cli("run", stored, "--plan", stored / "plan.json", "--plain")
    (artifact,) = (stored / "runs").glob(f"{INTERRUPTED}-*/artifact.json")
    assert [path.read_bytes() for path in reused] == before
    lock = yaml.safe_load((stored / "continuum.lock").read_text(encoding="utf-8"))
    loss = lock["stages"][INTERRUPTED]["metrics"]["val_loss"]
    assert loss == pytest.approx(LOSS_AT_THE_END, abs=0.02)
    attempts = artifact.with_name("attempts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in attempts].count("started") == 2
    assert {it["action"] for it in plan_of(cli, stored).values()} == {"reuse"}
    cli("verify", stored)


def test_a_saved_plan_of_other_work_is_refused(stored: Path, cli: Cli) -> None:
    spec = stored / "experiment.yaml"
    spec.write_text(spec.read_text(encoding="utf-8").replace("lr: 5e-3", "lr: 4e-3"))
    cli("run", stored, "--plan", stored / "plan.json", "--plain", expect=6)


def test_the_lock_accepts_the_stages_it_holds_and_no_other(stored: Path, cli: Cli) -> None:
    path = stored / "continuum.lock"
    lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    lock["versions"] = package_versions()  # the packages here may be newer than the stored ones
    path.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    refused = cli("run", stored, "--locked", "--plain", expect=6).stderr
    assert INTERRUPTED in refused
    spec = stored / "experiment.yaml"
    document = yaml.safe_load(spec.read_text(encoding="utf-8"))
    del document["stages"][INTERRUPTED]
    spec.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    cli("run", stored, "--locked", "--plain")
