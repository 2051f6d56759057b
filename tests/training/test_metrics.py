"""metrics.jsonl: each step once, although it was taken twice."""

import math
import shutil
from datetime import UTC, datetime

import pytest

from continuum.errors import StageFailedError
from continuum.runs import StageRun
from continuum.training.metrics import MetricsLog, read_metrics
from tests.training.conftest import DATA_STAGES
from tests.training.samples import Trials


def test_a_retaken_step_is_one_row(trials: Trials) -> None:
    """Stopped after step 13 with its last checkpoint lost: steps 11 to 13 are taken again."""
    trials.write(only=(*DATA_STAGES, "pretrain"))
    trials.carry_out(stop_at=13)
    shutil.rmtree(trials.stage_run("pretrain").checkpoint_dir(13))
    trials.carry_out().raise_for_failure()
    rows = [row for row in trials.rows("pretrain") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert [row["attempt"] for row in rows] == [1] * 10 + [2] * 10


@pytest.mark.parametrize(("owes", "kept"), [(True, ["loss"]), (False, ["loss", "val_loss"])])
def test_an_evaluation_that_is_owed_will_be_one_row(
    run: StageRun, owes: bool, kept: list[str]
) -> None:
    log = MetricsLog(run, attempt=1)
    log.write(step=4, loss=1.5)
    log.write(step=4, val_loss=1.5)
    log.write(step=5, loss=1.4)
    log.continue_from(4, owes_evaluation=owes)
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [4] * len(kept)
    assert [name for row in rows for name in row if name in ("loss", "val_loss")] == kept


def test_infinite_numbers_are_written_as_json_has_them(run: StageRun) -> None:
    log = MetricsLog(run, attempt=1)
    log.write(step=1, loss=1.5, grad_norm=math.inf, lr=math.nan, note=None)
    (row,) = read_metrics(run)
    at = datetime.fromisoformat(row.pop("at"))
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert row == {
        "attempt": 1, "step": 1, "loss": 1.5, "grad_norm": None, "lr": None, "note": None,
    }  # fmt: skip


def test_a_log_that_cannot_be_written_is_told(run: StageRun) -> None:
    run.metrics_path.mkdir()
    with pytest.raises(StageFailedError, match=r"step 3 cannot be recorded in .*checkpoints are"):
        MetricsLog(run, attempt=1).write(step=3, loss=1.5)
