"""A folder that the release before wrote: what is reused of it, and why the rest runs again.

`old_runs.tar.gz` is an experiment that continuum 0.1 ran when identities were keyed by names and
all kinds were of version 1: a text, a tokenizer, its tokens, a small training, its weights.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.planning.changes import Change
from continuum.planning.plan import Action, Request
from continuum.stages.fetch import Fetch
from continuum.stages.pretrain import Pretrain
from tests.commands import Cli
from tests.planning.carrying_out import document_of, plan_of, run
from tests.planning.edits import edit

RUNS = Path(__file__).parent / "old_runs.tar.gz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(RUNS) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "old"


def reasons(folder: Path, stage: str) -> list[str]:
    return [str(reason) for reason in plan_of(folder).stages[stage].reasons]


def test_a_text_is_taken_again_and_why(old: Path) -> None:
    planned = plan_of(old).stages["book"]
    assert planned.action is Action.RUN
    assert planned.reasons == (Change("version", "fetch", 1, 2, news=Fetch.news[2]),)


def test_an_upgrade_is_called_one(old: Path, cli: Cli) -> None:
    planned = plan_of(old).stages["pretrain"]
    assert planned.action is Action.RUN
    first = planned.reasons[0]
    assert first == Change("version", "pretrain", 1, 2, news=Pretrain.news[2])
    assert str(first).startswith("new version of kind pretrain: ")
    assert {reason.code for reason in planned.reasons} <= {"new-version", "upstream-changed"}
    (told,) = [s for s in document_of(old)["stages"] if s["name"] == "pretrain"]
    assert told["reasons"][0]["code"] == "new-version"
    assert told["reasons"][0]["news"] == Pretrain.news[2]
    for stage in ("tokens", "pretrain", "weights"):
        assert not any("never run" in reason for reason in reasons(old, stage))
        assert not any("inputs" in reason or "payload" in reason for reason in reasons(old, stage))
    shown = cli("plan", old, "--why", "weights").stdout
    assert "new version of kind pretrain" in shown


def test_what_else_was_changed_is_told_beside_the_new_version(old: Path) -> None:
    edit("lr: 1e-2", "lr: 1e-3")(old)
    first, *others = reasons(old, "pretrain")
    assert first.startswith("new version of kind pretrain")
    assert "optimizer.lr changed: 0.01 -> 0.001" in others


def test_a_locked_run_says_that_it_is_the_version(old: Path, cli: Cli) -> None:
    told = cli("run", old, "--locked", "--plain", expect=6).stderr
    assert "pretrain: its fingerprint is" in told
    assert "new version of kind pretrain" in told
    assert "new version of kind fetch" in told


def test_an_old_folder_can_be_verified_and_shown(old: Path, cli: Cli) -> None:
    cli("verify", old)
    cli("status", old)
    lock = yaml.safe_load((old / "continuum.lock").read_text(encoding="utf-8"))
    assert (
        "pretrain@step-4" in cli("lineage", old, lock["stages"]["pretrain"]["artifact"][:12]).stdout
    )


def test_the_weights_of_an_old_run_can_be_imported(old: Path) -> None:
    (run_folder,) = (old / "runs").glob("weights-*")
    spec = {
        "continuum": 1,
        "name": "new",
        "stages": {
            "weights": {"kind": "import", "path": str(run_folder / "output"), "as": "weights"}
        },
    }
    folder = old.parent / "new"
    folder.mkdir()
    (folder / "experiment.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    run(folder).raise_for_failure()


def test_an_old_run_stays_where_it_is_when_its_stage_is_made_again(old: Path) -> None:
    (before,) = (old / "runs").glob("book-*")
    record = json.loads((before / "stage.json").read_text(encoding="utf-8"))
    planned = plan_of(old, Request(rerun=frozenset({"book"}))).stages["book"]
    assert planned.action is Action.RUN
    assert not planned.must_replace
    assert planned.run.name != before.name
    kept: dict[str, Any] = json.loads((before / "stage.json").read_text(encoding="utf-8"))
    assert kept == record


def test_an_upgraded_folder_runs_to_its_end_and_is_settled(old: Path) -> None:
    run(old).raise_for_failure()
    assert not plan_of(old).has_work
    lock = yaml.safe_load((old / "continuum.lock").read_text(encoding="utf-8"))
    assert lock["stages"]["pretrain"]["precision"] == "32-true"
    assert lock["stages"]["book"]["fingerprint"] == plan_of(old).stages["book"].fingerprint
