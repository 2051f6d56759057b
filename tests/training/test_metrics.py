"""One continuous series in every log, although steps were taken twice."""

import csv
import math
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,  # tensorboard ships no type information
)

from continuum.errors import StageFailedError
from continuum.runs import StageRun
from continuum.training.metrics import MetricsLog, read_metrics
from tests.training.conftest import DATA_STAGES
from tests.training.samples import Trials

pytestmark = [
    pytest.mark.filterwarnings("ignore:The given buffer is not writable"),
    # Tensorboard's reader is protobuf of another day.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
]

TRAIN = (*DATA_STAGES, "pretrain")


@pytest.fixture
def crashed(trials: Trials) -> Trials:
    """Stopped after step 13 with its last checkpoint lost: steps 11 to 13 will be taken again."""
    trials.write(only=TRAIN, pretrain__runtime__loggers=["csv", "tensorboard"])
    trials.carry_out(stop_at=13)
    shutil.rmtree(trials.stage_run("pretrain").checkpoint_dir(13))
    return trials


def logs(trials: Trials) -> Path:
    return trials.stage_run("pretrain").path / "logs"


def test_a_retaken_step_is_one_row_of_the_metrics(crashed: Trials) -> None:
    crashed.carry_out().raise_for_failure()
    rows = [row for row in crashed.rows("pretrain") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert [row["attempt"] for row in rows] == [1] * 10 + [2] * 10


def test_a_retaken_step_is_one_row_of_the_csv_log(crashed: Trials) -> None:
    crashed.carry_out().raise_for_failure()
    with (logs(crashed) / "csv" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["loss"]] == list(range(1, 21))
    assert [int(row["step"]) for row in rows if row["val_loss"]] == [10, 20]


def test_a_retaken_step_is_one_point_in_tensorboard(crashed: Trials) -> None:
    crashed.carry_out().raise_for_failure()
    reader = EventAccumulator(str(logs(crashed) / "tensorboard"))
    reader.Reload()
    points = reader.Scalars("loss")
    assert [point.step for point in points] == list(range(1, 21))
    losses = [row["loss"] for row in crashed.rows("pretrain") if "loss" in row]
    assert [point.value for point in points] == pytest.approx(losses)
    assert [point.step for point in reader.Scalars("val_loss")] == [10, 20]


def test_infinite_numbers_are_written_as_json_has_them(run: StageRun) -> None:
    log = MetricsLog(run, attempt=1, loggers=())
    log.write(step=1, loss=1.5, grad_norm=math.inf, lr=math.nan, note=None)
    assert read_metrics(run) == [
        {"attempt": 1, "step": 1, "loss": 1.5, "grad_norm": None, "lr": None, "note": None}
    ]


def test_a_log_that_cannot_be_written_is_told(run: StageRun) -> None:
    run.metrics_path.mkdir()
    with pytest.raises(StageFailedError, match=r"step 3 cannot be recorded in .*checkpoints are"):
        MetricsLog(run, attempt=1, loggers=()).write(step=3, loss=1.5)
