"""How a sharded model begins, and how its shards are saved while it goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from continuum.experiment.architecture import architecture
from continuum.training.litgpt import build_model
from tests.processes import begin_model, save_shards, snapshot_memory
from tests.processes.begin_model import digest
from tests.training.samples import cpu_fabric, tokenizer_folder

pytestmark = pytest.mark.slow  # each starts torchrun with a model of real size


def begin(num_processes: int, *arguments: object) -> list[dict[str, Any]]:
    """What each process that begins a model says, by rank."""
    told = torchrun(num_processes, begin_model.__file__, *arguments)
    return sorted(told, key=lambda line: int(line["rank"]))


def torchrun(num_processes: int, script: str, *arguments: object) -> list[dict[str, Any]]:
    """The JSON lines that processes print."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={num_processes}", script, *map(str, arguments)]
    # glibc else keeps freed blocks below 32 MB, which blurs what was held at once.
    root = str(Path(__file__).parents[2])  # the program imports from the tests
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000", "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_a_sharded_model_begins_as_an_unsharded_one(precision: str) -> None:
    (alone,) = begin(1, "pythia-14m", precision)
    first, second = begin(2, "pythia-14m", precision)
    assert first["digest"] == alone["digest"]
    assert second["digest"] == digest({})  # Rank 0 alone gathers.


@pytest.mark.slow
def test_no_process_holds_the_whole_model_when_it_starts() -> None:
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


def test_shards_are_written_in_the_background_as_they_were(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "pretrain-000000000000"
    run.mkdir(parents=True)
    tokenizer_dir = tokenizer_folder(tmp_path)
    (told,) = torchrun(2, save_shards.__file__, run, tokenizer_dir, "pythia-14m")
    print(f"stalled {told['stalled_s']:.3f} s of {told['written_s']:.3f} s")
    assert told["is_same"]
    assert not told["is_published_at_once"]


def test_the_gathered_state_is_not_copied_once_more() -> None:
    """On rank 0; the other holds nothing of the whole, and unsharded, nobody but rank 0 copies."""
    for strategy in ("fsdp", "ddp"):
        first, second = sorted(
            torchrun(2, snapshot_memory.__file__, "pythia-70m", strategy),
            key=lambda line: int(line["rank"]),
        )
        print(f"{strategy}: {first['taken_bytes'] / first['state_bytes']:.2f} of the state")
        assert first["taken_bytes"] < 1.35 * first["state_bytes"]
        assert second["taken_bytes"] < 0.35 * first["state_bytes"]
        assert first["is_as_before"]
