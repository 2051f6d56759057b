"""Lightning's loggers show what is in metrics.jsonl: one run over restarts, each step once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.preflight.training import missing_extras
from continuum.runs.events import Event, Trained
from continuum.runs.folder import StageRun
from tests.commands import Cli
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


@pytest.fixture(scope="module")
def recovered(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """Interrupted and gone on, with all loggers; tests only read it."""
    trials = Trials(data).copied_to(tmp_path_factory.mktemp("recovered") / "toy")
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


NOBODY = "http://127.0.0.1:9"
"""Where nothing answers: the port of the discard service."""
MLFLOW_AT_NOBODY = {"MLFLOW_TRACKING_URI": NOBODY, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
WANDB_AT_NOBODY = {
    "WANDB_MODE": "online",
    "WANDB_BASE_URL": NOBODY,
    "WANDB_API_KEY": "0" * 40,
    "WANDB_INIT_TIMEOUT": "2",
}


def warnings_of(events: list[Event]) -> list[str]:
    return [message for message in warnings_in(events) if "logger" in message]


def obstruct(trials: Trials, logger: str) -> Path:
    """Put a file where the logger's folder should be."""
    path = trials.plan().stages["pretrain"].run.path / "loggers" / logger
    path.parent.mkdir(parents=True)
    path.write_text("in the way")
    return path


@pytest.mark.parametrize("logger", ALL)
def test_a_logger_that_cannot_write_is_told_of_once_and_training_goes_on(
    trials: Trials, logger: str
) -> None:
    trials.write(only=TRAIN, **spec([logger]))
    obstruct(trials, logger)
    events: list[Event] = []
    trials.carry_out(events=events).raise_for_failure()
    (told,) = warnings_of(events)
    assert told.startswith(f"logger {logger} failed: ")
    assert [row["step"] for row in trials.rows("pretrain") if "lr" in row] == list(range(1, 21))


@pytest.mark.parametrize("logger", ALL)
def test_a_logger_that_works_again_gets_what_it_missed(trials: Trials, logger: str) -> None:
    trials.write(only=TRAIN, **spec([logger]))
    obstacle = obstruct(trials, logger)
    events = _Events(lambda event: obstacle.unlink() if event.step == 15 else None)
    trials.carry_out(events=events).raise_for_failure()
    assert len(warnings_of(events)) == 1
    check_all(trials, [logger])


class _Events(list[Event]):
    """Events as they come, each shown to a function too."""

    def __init__(self, look: Any) -> None:
        super().__init__()
        self._look = look

    def append(self, event: Event) -> None:
        super().append(event)
        if isinstance(event, Trained):
            self._look(event)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logger", "environment"),
    [("mlflow", MLFLOW_AT_NOBODY), ("wandb", WANDB_AT_NOBODY)],
    ids=["mlflow", "wandb"],
)
def test_a_server_that_does_not_answer_does_not_hold_up_a_run(
    trials: Trials, logger: str, environment: dict[str, str]
) -> None:
    trials.write(only=TRAIN, **spec([logger]))
    told = Cli(environment)("run", trials.folder).stderr
    assert told.count(f"warning: logger {logger} failed") == 1
    assert [row["step"] for row in trials.rows("pretrain") if "lr" in row] == list(range(1, 21))


def test_what_is_not_installed_is_told_before_anything_starts(
    trials: Trials, tmp_path: Path
) -> None:
    """All packages of this environment but W&B and MLflow; a folder that W&B left lies about."""
    trials.write(only=TRAIN, **spec(["wandb", "csv", "mlflow"]))
    packages = tmp_path / "packages"
    packages.mkdir()
    for site in map(Path, sys.path):
        for path in site.glob("*") if site.name == "site-packages" else ():
            link = packages / path.name  # of several folders the first on the path counts
            if not path.name.startswith(("wandb", "mlflow")) and not link.exists():
                link.symlink_to(path)
    (tmp_path / "here" / "wandb").mkdir(parents=True)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-m", "continuum", "run", trials.folder],
        env={"PYTHONPATH": f"{root}:{packages}", "COLUMNS": "160"},
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    for name in ("wandb", "mlflow"):
        told = f"{name} is not installed; `pip install 'continuum-lm[{name}]'` installs it"
        assert told in done.stderr
    assert "csv is not installed" not in done.stderr
    assert not list(trials.folder.glob("runs/pretrain-*"))


def test_what_is_installed_is_not_missed() -> None:
    assert list(missing_extras(ALL)) == []
