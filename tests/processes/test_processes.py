"""Two processes on one machine, through real torchrun and gloo: the same training, shared."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.commands import Cli, kill_group, only, wait_until
from tests.experiments import FIRST_STAGES
from tests.processes.pairs import attempts, final_state, losses, ranks_of, spec


def kill_at(folder: Path, step: int) -> None:
    """Start the run, and kill all of it once it has saved this step."""
    process = Cli().start("run", folder)
    saved = f"runs/pretrain-*/checkpoints/step-{step:08d}"
    wait_until(lambda: bool(list(folder.glob(saved))))
    kill_group(process)
    wait_until(lambda: not ranks_of(folder), timeout_s=10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(
    kind: str, alone: Path, prepare: Callable[..., Path], cli: Cli
) -> None:
    folder = prepare(spec(kind))
    cli("run", folder)
    assert losses(folder) == pytest.approx(losses(alone), abs=1e-5)
    resolved = json.loads(only(folder, "runs/pretrain-*/resolved.json").read_text())
    assert (resolved["world_size"], resolved["strategy"]) == (2, kind.replace("sharded", "fsdp"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "sharded"])
def test_killed_processes_go_on_to_the_same_bytes(
    kind: str, prepare: Callable[..., Path], cli: Cli
) -> None:
    unbroken, killed = prepare(spec(kind), "unbroken"), prepare(spec(kind), "killed")
    cli("run", unbroken)
    kill_at(killed, 8)
    cli("run", killed)
    assert final_state(killed) == final_state(unbroken)
    assert any(line["event"] == "recovered" and line["exact"] for line in attempts(killed))


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, -1], ids=["the first's share", "the second's share"])
def test_a_damaged_shard_is_found_by_whoever_reads_it(
    place: int, prepare: Callable[..., Path], cli: Cli
) -> None:
    unbroken, broken = prepare(spec("sharded"), "unbroken"), prepare(spec("sharded"), "broken")
    cli("run", unbroken)
    kill_at(broken, 8)
    newest = max(broken.glob("runs/pretrain-*/checkpoints/step-*"))
    shard = sorted(newest.glob("shards/*.distcp"), key=lambda p: p.stat().st_size)[place]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    told = cli("run", broken).stderr
    assert f"{newest.name} is corrupt; skipped: shards/{shard.name} does not match" in told
    assert final_state(broken) == final_state(unbroken)


@pytest.mark.slow
def test_another_number_of_processes_is_recorded_and_sees_the_same_samples(
    alone: Path, prepare: Callable[..., Path], cli: Cli
) -> None:
    folder = prepare(spec())
    kill_at(folder, 4)
    (folder / "experiment.yaml").write_text(spec("sharded"), encoding="utf-8")
    kill_at(folder, 8)
    (folder / "experiment.yaml").write_text(spec(), encoding="utf-8")
    cli("run", folder)
    assert losses(folder) == pytest.approx(losses(alone), abs=1e-5)
    recovered = [line for line in attempts(folder) if line["event"] == "recovered"]
    assert [line["exact"] for line in recovered] == [False, False]
    assert "world_size was 1 and is 2" in recovered[0]["why"]


@pytest.mark.slow
def test_a_frozen_rank_and_a_kill_end_in_a_message(prepare: Callable[..., Path], cli: Cli) -> None:
    folder = prepare(spec("ddp", steps=4000))
    process = cli.start("run", folder, "--grace", "3")
    wait_until(lambda: bool(list(folder.glob("runs/pretrain-*/checkpoints/step-*"))))
    os.kill(ranks_of(folder)[-1], signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "did not stop within 3 s" in told
    wait_until(lambda: not ranks_of(folder), timeout_s=10)


@pytest.mark.slow
def test_sharded_weights_are_converted_completely(prepare: Callable[..., Path], cli: Cli) -> None:
    text = spec("sharded", stages=(*FIRST_STAGES, "longer", "weights"), steps=20)
    folder = prepare(text)
    cli("run", folder)
    weights = only(folder, "runs/weights-*/output/lit_model.pth")
    loaded = torch.load(weights, weights_only=True)
    assert loaded["lm_head.weight"].shape == (512, 32)
    assert not only(folder, "runs/longer-*/output").joinpath("lit_model.pth").exists()


@pytest.mark.slow
def test_several_nodes_without_a_slurm_job_are_refused(
    prepare: Callable[..., Path], cli: Cli
) -> None:
    folder = prepare(
        spec().replace("micro_batch_size: 2", "micro_batch_size: 2\n      num_nodes: 2")
    )
    told = cli("run", folder, expect=4).stderr
    assert "runtime.num_nodes is 2, which needs a Slurm job around the run" in told
