"""How a sharded model begins: with the bytes of an unsharded one, and without holding it whole."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from continuum.architecture import architecture
from continuum.training.litgpt import build_model
from tests.processes import begin_model
from tests.processes.begin_model import digest
from tests.training.samples import cpu_fabric


def begin(num_processes: int, *arguments: object) -> list[dict[str, Any]]:
    """What each process says, by rank."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [f"--nproc-per-node={num_processes}", begin_model.__file__, *map(str, arguments)]
    # glibc else keeps freed blocks below 32 MB, which blurs what was held at once.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run(
        [*torchrun, *script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return sorted((json.loads(line) for line in lines), key=lambda told: int(told["rank"]))


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_a_sharded_model_begins_as_an_unsharded_one(precision: str) -> None:
    (alone,) = begin(1, "pythia-14m", precision)
    first, second = begin(2, "pythia-14m", precision)
    assert first["digest"] == alone["digest"]
    assert second["digest"] == digest({})  # Rank 0 alone gathers.


@pytest.mark.slow
def test_no_process_holds_the_whole_model_when_it_begins() -> None:
    parameters = architecture("pythia-410m").num_parameters()
    assert parameters is not None
    (alone,) = begin(1, "pythia-410m", "32-true")
    assert alone["taken_bytes"] > 0.95 * 4 * parameters
    for told in begin(2, "pythia-410m", "32-true"):
        assert told["taken_bytes"] < 0.65 * 4 * parameters


def test_loaded_weights_are_sharded_bit_for_bit(tmp_path: Path) -> None:
    name = "pythia-14m"
    (alone,) = begin(1, name, "32-true")
    model = build_model(cpu_fabric(), architecture(name).fields, 8)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(model.state_dict(), tmp_path / "lit_model.pth")
    first, _ = begin(2, name, "32-true", tmp_path)
    assert first["digest"] == digest(model.state_dict()) != alone["digest"]
