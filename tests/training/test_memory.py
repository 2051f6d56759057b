"""What a plan says of memory, against what real processes took, and against what there is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from continuum.errors import PreflightError, Problem
from continuum.experiment.architecture import Architecture, architecture
from continuum.experiment.forecast import Forecast
from continuum.experiment.recipe import Recipe
from continuum.experiment.stage import PlanInput
from continuum.preflight import forecast_training
from continuum.preflight.host import Host, HostMemory, has_cuda_device, host_memory
from continuum.preflight.memory import MemoryEstimate, estimate_memory, memory_problems
from continuum.preflight.placement import Placement
from continuum.stages.convert import Convert
from continuum.training.fabric import make_fabric
from continuum.training.memory import memory_warnings
from continuum.training.resolved import resolve
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.training.samples import FIELDS, cpu_fabric, make_recipe

DATA = Convert.model_validate({"from": "pretrain"})
"""Any stage: it is not looked at."""
MODELS: dict[str, dict[str, Any]] = {
    "pythia-14m": {"name": "pythia-14m"},
    "llama-like": {
        "name": "Llama-3.2-1B", "n_layer": 4, "n_embd": 256, "n_head": 8, "n_query_groups": 2,
        "head_size": 32, "intermediate_size": 1024, "padded_vocab_size": 32_000,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("sequence_length", [128, 512])
@pytest.mark.parametrize("micro_batch_size", [2, 8])
@pytest.mark.parametrize("model", MODELS)
def test_a_training_takes_the_memory_that_was_estimated(
    model: str,
    micro_batch_size: int,
    sequence_length: int,
    precision: str,
    tmp_path: Path,
    cli: Cli,
) -> None:
    text = small_flow(
        only=FIRST_STAGES,
        pretrain__model=MODELS[model],
        pretrain__max_steps=3,
        pretrain__sequence_length=sequence_length,
        pretrain__global_batch_size=2 * micro_batch_size,
        pretrain__precision=precision,
        pretrain__runtime={"micro_batch_size": micro_batch_size, "checkpoint": {"every": 1}},
    )
    (tmp_path / "experiment.yaml").write_text(text, encoding="utf-8")
    cli("run", tmp_path)
    lines = only(tmp_path, "runs/pretrain-*/metrics.jsonl").read_text().splitlines()
    taken = max(row.get("memory_bytes", 0) for row in map(json.loads, lines))
    record = json.loads(only(tmp_path, "runs/pretrain-*/stage.json").read_text())
    estimate = _estimate(Recipe.model_validate(record["recipe"], strict=False), MODELS[model])
    print(
        f"{model} {micro_batch_size}x{sequence_length} {precision}: "
        f"{taken / 1e6:,.0f} MB, estimated {estimate.total_bytes / taken:.2f} of it"
    )
    assert 0.7 < estimate.total_bytes / taken < 1.4
    assert estimate.sure_bytes < taken


def _estimate(recipe: Recipe, model: dict[str, Any]) -> MemoryEstimate:
    overrides = {key: value for key, value in model.items() if key != "name"}
    shape = architecture(model["name"], overrides)
    found = estimate_memory(recipe, shape, Placement(True, "single", recipe.precision))
    assert found is not None
    return found


def test_strategies_share_the_state_as_they_do() -> None:
    def state(strategy: str, precision: str = "32-true", **runtime: Any) -> int:
        recipe = make_recipe(global_batch_size=64, runtime={"micro_batch_size": 1, **runtime})
        placement = Placement(False, strategy, precision, accumulates_unsharded=whole_gradients)
        found = estimate_memory(recipe, architecture("pythia-1b"), placement)
        assert found is not None
        return found.state_bytes

    parameters = architecture("pythia-1b").num_parameters()
    assert parameters is not None
    whole_gradients = False
    assert state("single") == state("ddp", devices=4) == 16 * parameters
    assert state("single", "bf16-mixed") == 16 * parameters
    assert state("single", "bf16-true") == 8 * parameters
    assert state("fsdp", devices=4) < state("fsdp", devices=2) < state("single")
    sharded = state("fsdp", "bf16-mixed", devices=32)
    assert 16 * parameters / 32 < sharded < state("fsdp", devices=32)
    whole_gradients = True
    assert state("fsdp", "bf16-mixed", devices=32) == sharded + 4 * parameters
    assert state("fsdp", "bf16-mixed", devices=64) < sharded + 4 * parameters  # nothing to add up


def test_what_surely_does_not_fit_is_refused_and_what_may_not_is_told() -> None:
    estimate = MemoryEstimate(base_bytes=100, state_bytes=1000, activation_bytes=1000)
    assert estimate.sure_bytes == 1700

    def problems(total: int, available: int) -> list[Problem]:
        memory = HostMemory(total, available)
        return memory_problems([(estimate, memory, "this machine")], is_sure=True)

    (problem,) = problems(1699, 1699)
    assert (problem.severity, problem.needs) == ("error", "machine")
    assert "1.0 kB weights, gradients and optimizer, 1.0 kB activations" in problem.message
    assert "lower runtime.micro_batch_size" in problem.message
    assert "strategy fsdp" in problem.message
    (doubt,) = problems(1700, 1700)
    assert doubt.severity == "warning"
    assert doubt.message.startswith("training takes about 2.1 kB of memory")
    assert problems(9000, 2100) == []


@pytest.mark.parametrize("runtime", [{}, {"accelerator": "cpu", "num_nodes": 2}], ids=str)
def test_a_machine_that_only_plans_refuses_nothing_for_its_memory(runtime: dict[str, Any]) -> None:
    host = Host(HostMemory(500, 500), has_cuda_device=False)
    recipe, inputs = make_recipe(runtime=runtime), {"tokens": PlanInput(DATA, Forecast(), None)}
    found = forecast_training(recipe, architecture("pythia-14m"), inputs, host=host)
    assert [it for it in found.problems if "memory" in it.message] == []
    assert [it for it in found.warnings if "memory" in it.message] != []


def test_processes_of_one_machine_share_its_memory() -> None:
    alone = MemoryEstimate(10, 20, 30, snapshot_bytes=5)
    assert (alone.total_bytes, alone.likely_bytes) == (65, 65)
    several = MemoryEstimate(10, 20, 30, snapshot_bytes=5, num_processes=3)
    assert several.likely_bytes == 3 * 60 + 5


def test_a_model_too_large_for_this_machine_is_refused_before_it_is_built() -> None:
    here = host_memory()
    assert here is not None
    layers = 2 * here.total_bytes // (16 * 12 * 8192**2)
    shape = architecture("pythia-12b", {"n_layer": int(layers), "n_embd": 8192, "n_head": 64})
    recipe, fabric = make_recipe(), cpu_fabric()
    with pytest.raises(PreflightError, match="and this machine has"):
        list(memory_warnings(fabric, recipe, shape, resolve(recipe, {})))
    assert list(memory_warnings(fabric, recipe, Architecture(FIELDS), resolve(recipe, {}))) == []


@pytest.mark.gpu
def test_a_model_too_large_for_the_device_is_refused_before_it_is_built() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    layers = 2 * total // (16 * 12 * 8192**2)
    shape = architecture("pythia-12b", {"n_layer": int(layers), "n_embd": 8192, "n_head": 64})
    recipe = make_recipe(runtime={"accelerator": "cuda"})
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    with pytest.raises(PreflightError, match=r"and cuda:0 .* has"):
        list(memory_warnings(fabric, recipe, shape, resolved))


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group that holds its processes to 500 MB."""
    roots = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    for root, limit in zip(roots, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = root / f"continuum-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text("500000000")
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("this user may not make a control group")


def test_a_control_groups_limit_is_the_memory_there_is(control_group: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from continuum.preflight.host import host_memory\n"
        "print(host_memory().total_bytes, host_memory().available_bytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, control_group], capture_output=True, text=True, check=True
    )
    total, available = map(int, done.stdout.split())
    assert total == pytest.approx(500_000_000, abs=4096)
    assert 0 < available <= total


def test_limits_of_all_groups_above_count_and_max_is_none(tmp_path: Path) -> None:
    """As version 2 of control groups lays it out, for a job inside a user's slice."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    job = cgroups / "slice" / "job"
    job.mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: 6000000 kB\n")
    (proc / "self" / "cgroup").write_text("0::/slice/job\n")
    (job / "memory.max").write_text("max\n")
    (job.parent / "memory.max").write_text("2000000000\n")
    (job.parent / "memory.current").write_text("1500000000\n")
    (job.parent / "memory.stat").write_text("anon 1\ninactive_file 300000000\n")
    assert host_memory(proc, cgroups) == HostMemory(2_000_000_000, 800_000_000)
    (job / "memory.max").write_text("1000000000\n")
    assert host_memory(proc, cgroups) == HostMemory(1_000_000_000, 800_000_000)


def test_hidden_devices_are_no_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not has_cuda_device(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_cuda_device(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_cuda_device(tmp_path)
