"""Lightning's loggers show what is in metrics.jsonl: one run over restarts, each step once."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from continuum.events import Event
from continuum.runs import StageRun
from tests.support import warnings_in
from tests.training.mirrored import ALL, TRAIN, check_all, crash, expected, folder_of, spec
from tests.training.readers import (
    mlflow_run,
    read_mlflow,
    tensorboard_text,
    wandb_config,
    wandb_file,
)
from tests.training.samples import Trials

# TensorBoard's reader is protobuf of another day.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")


@pytest.fixture(scope="module")
def recovered(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """Interrupted and gone on, with all loggers; tests only read it."""
    folder = tmp_path_factory.mktemp("recovered") / "toy"
    shutil.copytree(data, folder)
    trials = Trials(folder)
    crash(trials, ALL)
    trials.carry_out().raise_for_failure()
    return trials


@pytest.mark.parametrize("logger", ALL)
def test_each_step_is_there_once_with_the_numbers_of_metrics_jsonl(
    recovered: Trials, logger: str
) -> None:
    check_all(recovered, [logger])


def test_the_configuration_is_shown_by_all(recovered: Trials) -> None:
    folder = folder_of(recovered)
    plan = recovered.plan().stages["pretrain"]
    text = yaml.safe_load((folder / "csv/hparams.yaml").read_text())
    assert text["fingerprint"] == plan.fingerprint
    assert text["recipe"]["optimizer"]["lr"] == 5e-3
    assert text["recipe"]["schedule"]["kind"] == "cosine"  # filled in
    assert f"    fingerprint: {plan.fingerprint}\n" in tensorboard_text(folder, "config")
    assert {k: v for k, v in wandb_config(folder).items() if k != "_wandb"} == text
    _, run = mlflow_run((folder / "mlflow").as_uri())
    assert run.data.params["recipe/optimizer/lr"] == "0.005"
    assert run.data.params["fingerprint"] == plan.fingerprint
    assert run.data.tags["runtime.micro_batch_size"] == "4"


def test_wandb_has_one_run_in_one_folder_under_the_recorded_id(recovered: Trials) -> None:
    folder = folder_of(recovered)
    kept = (folder / "id.txt").read_text().strip()
    assert wandb_file(folder).name == f"run-{kept}.wandb"
    assert kept.startswith(recovered.stage_run("pretrain").name[-12:])


def test_mlflow_goes_on_with_the_run_that_was_stopped(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = (tmp_path / "theirs").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    crash(trials, ["mlflow"])
    _, stopped = mlflow_run(uri)
    assert stopped.info.status == "KILLED"
    trials.carry_out().raise_for_failure()
    _, finished = mlflow_run(uri)
    assert finished.info.status == "FINISHED"
    assert finished.info.run_id == stopped.info.run_id
    assert finished.info.run_name == trials.stage_run("pretrain").name


def test_other_runtime_shows_in_mlflow_though_it_changes_no_parameter(trials: Trials) -> None:
    crash(trials, ["mlflow"])
    trials.write(only=TRAIN, **spec(["mlflow"]), pretrain__runtime__micro_batch_size=2)
    events: list[Event] = []
    trials.carry_out(events=events).raise_for_failure()
    assert not [message for message in warnings_in(events) if "mlflow" in message]
    _, run = mlflow_run((folder_of(trials) / "mlflow").as_uri())
    assert run.data.tags["runtime.micro_batch_size"] == "2"


def test_an_interruption_before_the_first_checkpoint_leaves_nothing_behind(
    trials: Trials,
) -> None:
    crash(trials, ALL, step=3)
    trials.carry_out().raise_for_failure()
    check_all(trials)


def test_a_run_moved_while_it_was_stopped_stays_one(trials: Trials, tmp_path: Path) -> None:
    crash(trials, ALL)
    moved = Trials(tmp_path / "elsewhere" / "toy")
    shutil.move(trials.folder, moved.folder)
    moved.carry_out().raise_for_failure()
    check_all(moved)


def test_a_run_made_again_is_another_one_to_the_loggers(trials: Trials) -> None:
    trials.run(only=TRAIN, **spec(["csv"]))
    first = (folder_of(trials) / "id.txt").read_text()
    shutil.rmtree(trials.stage_run("pretrain").path)
    trials.carry_out().raise_for_failure()
    assert (folder_of(trials) / "id.txt").read_text() != first


def test_a_users_own_mlflow_store_gets_each_step_once(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = (tmp_path / "theirs").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    crash(trials, ["mlflow"])
    trials.carry_out().raise_for_failure()
    assert not (folder_of(trials) / "mlflow").exists()
    points = read_mlflow(folder_of(trials), uri)
    assert [step for step, _, _ in points["loss"]] == list(range(1, 21))
    assert [step for step, _, _ in points["val_loss"]] == [10, 20]
    values = [value for _, value, _ in points["loss"]]
    assert values == [value for _, value, _ in expected(trials.rows("pretrain"), "loss")]


def test_a_logger_added_later_gets_what_was_before(trials: Trials) -> None:
    crash(trials, [])
    trials.write(only=TRAIN, **spec(ALL))
    trials.carry_out().raise_for_failure()
    check_all(trials)


def test_no_record_of_ours_says_where_the_folder_is(recovered: Trials) -> None:
    run: StageRun = recovered.stage_run("pretrain")
    ours = [run.path / "loggers/id.txt", run.path / "loggers/csv/hparams.yaml", run.metrics_path]
    for path in (*ours, *run.path.glob("*.json*")):
        assert str(recovered.folder) not in path.read_text(), path
    assert json.loads((run.path / "stage.json").read_text())["recipe"]["runtime"]["loggers"] == ALL
