"""Experiments whose runs are shown by loggers, and what the loggers must then hold."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from continuum.runs.folder import StageRun
from continuum.training.loggers.series import time_of
from tests.training.conftest import DATA_STAGES
from tests.training.readers import READERS, Points
from tests.training.samples import Trials

ALL = ["csv", "tensorboard", "wandb", "mlflow"]
TRAIN = (*DATA_STAGES, "pretrain")
MIXTURE = {"code_tokens": 0.5, "tokens": 0.5}


def spec(loggers: list[str]) -> dict[str, Any]:
    return {"pretrain__data": MIXTURE, "pretrain__runtime__loggers": loggers}


def crash(trials: Trials, loggers: list[str], *, step: int = 13) -> None:
    """Stop after the step and lose its checkpoint, so that steps from 11 will be taken again."""
    trials.write(only=TRAIN, **spec(loggers))
    trials.carry_out(stop_at=step)
    shutil.rmtree(trials.stage_run("pretrain").checkpoint_dir(step))


def folder_of(trials: Trials) -> Path:
    return trials.stage_run("pretrain").path / "loggers"


def check_all(trials: Trials, loggers: list[str] = ALL) -> None:
    """`check_run` of the pretraining."""
    check_run(trials.stage_run("pretrain"), loggers, num_steps=20)


def check_run(run: StageRun, loggers: list[str], *, num_steps: int) -> None:
    """Each logger has each step once, with the numbers and at the times of metrics.jsonl."""
    rows = run.metrics()
    assert [row["step"] for row in rows if "lr" in row] == list(range(1, num_steps + 1))
    for logger in loggers:
        points = READERS[logger](run.path / "loggers")
        check(points, rows, separator="." if logger == "mlflow" else "/")


def expected(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float, float]]:
    """The points of a metric, as metrics.jsonl has them."""
    return [(row["step"], row[name], time_of(row)) for row in rows if row.get(name) is not None]


def check(points: Points, rows: list[dict[str, Any]], *, separator: str = "/") -> None:
    """The same metrics, and of each the same points in the same order at the same times."""
    names = {n for row in rows for n in row} - {"attempt", "step", "at"}
    assert points.keys() == {name.replace("/", separator) for name in names}
    assert {"loss", "val_loss"} <= names
    for name in names:
        wanted = expected(rows, name)
        found = points[name.replace("/", separator)]
        assert [step for step, _, _ in found] == [step for step, _, _ in wanted], name
        assert [v for _, v, _ in found] == pytest.approx([v for _, v, _ in wanted], rel=1e-6), name
        times = [time for _, _, time in found if time is not None]
        assert times in ([], pytest.approx([time for _, _, time in wanted], abs=0.01)), name
