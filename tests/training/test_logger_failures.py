"""Loggers that cannot write, reach nobody or are not installed: told once, and training goes on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from continuum.events import Event, Trained
from continuum.preflight.training import missing_extras
from tests.commands import Cli
from tests.support import warnings_in
from tests.training.mirrored import ALL, TRAIN, check_all, spec
from tests.training.samples import Trials

# TensorBoard's reader is protobuf of another day.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
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
    assert told.startswith(f"the logger {logger} does not work: ")
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


@pytest.mark.parametrize(
    ("logger", "environment"),
    [
        pytest.param("mlflow", MLFLOW_AT_NOBODY, id="mlflow"),
        pytest.param("wandb", WANDB_AT_NOBODY, id="wandb", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_does_not_answer_does_not_hold_up_a_run(
    trials: Trials, logger: str, environment: dict[str, str]
) -> None:
    trials.write(only=TRAIN, **spec([logger]))
    told = Cli(environment)("run", trials.folder).stderr
    assert told.count(f"warning: the logger {logger} does not work") == 1
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
            if not path.name.startswith(("wandb", "mlflow")):
                (packages / path.name).symlink_to(path)
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
        told = f"{name} is not installed; `pip install 'continuum[{name}]'` installs it"
        assert told in done.stderr
    assert "csv is not installed" not in done.stderr
    assert not list(trials.folder.glob("runs/pretrain-*"))


def test_what_is_installed_is_not_missed() -> None:
    assert list(missing_extras(ALL)) == []
