"""No field of `runtime` changes a number, beyond the order of floating-point sums.

Each field is played with other values than those of `BASE`; a field that is new fails the first
test until it is played too.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum.experiment.runtime import CheckpointPolicy, Runtime
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_flow

BASE = {"accelerator": "cpu", "micro_batch_size": 4, "checkpoint": {"every": 5}}
QUICK: dict[str, dict[str, Any]] = {
    "micro_batch_size": {"micro_batch_size": 1},
    "micro_batch_size auto": {"micro_batch_size": "auto", "activation_checkpointing": "full"},
    "log_every": {"log_every": 3},
    "deterministic": {"deterministic": True},
    "activation_checkpointing": {"activation_checkpointing": "full"},
    "accelerator": {"accelerator": "auto"},
    "loggers": {"loggers": ["csv"]},
    "checkpoint": {
        "checkpoint": {
            "every": 2,
            "minutes": 1e-3,
            "keep_last": 3,
            "keep_every": 4,
            "keep_best": "val_loss",
        }
    },
}
"""In this process's world of one."""
SLOW: dict[str, dict[str, Any]] = {
    "compile": {"compile": "on"},
    "attention": {"attention": "math"},
    "strategy ddp": {"devices": 2, "strategy": "ddp", "collective_timeout": "5m"},
    "strategy fsdp": {"devices": 2, "strategy": "fsdp", "micro_batch_size": 2},
    "accumulate_unsharded": {
        "devices": 2,
        "strategy": "fsdp",
        "micro_batch_size": 2,
        "accumulate_unsharded": True,
    },
    "sharded": {"devices": 2, "strategy": "fsdp", "checkpoint": {"format": "sharded"}},
}
NOT_PLAYED = {"num_nodes": "more than one needs Slurm: tests/slurm/test_nodes.py compares losses"}


def test_every_field_is_played() -> None:
    played = [change for changes in (QUICK, SLOW) for change in changes.values()]
    fields = {name for change in played for name in change} | NOT_PLAYED.keys()
    assert fields == Runtime.model_fields.keys()
    policies = {name for change in played for name in change.get("checkpoint", {})}
    assert policies == CheckpointPolicy.model_fields.keys()
    for change in played:
        assert any(BASE.get(name) != value for name, value in change.items())


def spec(runtime: dict[str, Any]) -> str:
    return small_flow(
        only=FIRST_STAGES,
        pretrain__max_steps=6,
        pretrain__evaluate={"every": 2, "sequences": 10, "at_start": True},
        pretrain__runtime={**BASE, **runtime},
    )


Curves = dict[str, dict[int, float]]


def curves(folder: Path) -> Curves:
    """The losses by step."""
    lines = only(folder, "runs/pretrain-*/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {
        name: {row["step"]: row[name] for row in rows if name in row}
        for name in ("loss", "val_loss")
    }


@pytest.fixture(scope="module")
def base(run_once: Callable[[str], Path]) -> Path:
    """The pretraining that the others are compared with."""
    return run_once(spec({}))


@pytest.fixture
def played(base: Path, tmp_path: Path) -> Callable[[dict[str, Any]], Curves]:
    """Train once more in another way; the losses by step."""

    def play(runtime: dict[str, Any]) -> Curves:
        folder = shutil.copytree(base, tmp_path / "played")
        shutil.rmtree(only(folder, "runs/pretrain-*"))
        (folder / "experiment.yaml").write_text(spec(runtime), encoding="utf-8")
        Cli()("run", folder)
        return curves(folder)

    return play


def check(found: Curves, wanted: Curves) -> None:
    assert found["val_loss"].keys() == wanted["val_loss"].keys() == {0, 2, 4, 6}
    assert found["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-5)
    assert {6} <= found["loss"].keys() <= wanted["loss"].keys()
    same = {step: wanted["loss"][step] for step in found["loss"]}
    assert found["loss"] == pytest.approx(same, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_another_way_to_work_gives_the_same_losses(
    name: str, base: Path, played: Callable[[dict[str, Any]], Curves]
) -> None:
    found, wanted = played(QUICK[name]), curves(base)
    check(found, wanted)
    # Weights that are equal to the bit, as they are before the first step.
    assert found["val_loss"][0] == wanted["val_loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_another_number_of_processes_gives_the_same_losses(
    name: str, base: Path, played: Callable[[dict[str, Any]], Curves]
) -> None:
    check(played(SLOW[name]), curves(base))
