"""What the plan takes a stage's device and precision for, and what it then says of the memory."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum.experiment.architecture import architecture
from continuum.experiment.forecast import Forecast
from continuum.experiment.recipe import Recipe
from continuum.experiment.stage import PlanInput
from continuum.preflight.host import CudaDevice, Host, HostMemory, cuda_devices
from continuum.preflight.memory import MemoryEstimate, estimate_memory
from continuum.preflight.placement import foreseen_placement, machine_problems
from continuum.preflight.training import forecast_training
from continuum.stages.convert import Convert
from tests.training.samples import make_recipe

DATA = Convert.model_validate({"from": "pretrain"})
MEMORY = HostMemory(2_000_000_000_000, 2_000_000_000_000)
A100 = CudaDevice("NVIDIA A100-SXM4-80GB", (8, 0), 85_100_000_000)
T4 = CudaDevice("Tesla T4", (7, 5), 15_800_000_000)


def host_with(device: CudaDevice | None) -> Host:
    return Host(MEMORY, has_cuda_device=True, device=device)


def gpu_recipe(size: int, **fields: Any) -> Recipe:
    """On one GPU, with sequences of 2,048 tokens, `size` of them at once."""
    runtime = {"accelerator": "cuda", "micro_batch_size": size} | fields.pop("runtime", {})
    fields = {"global_batch_size": 8 * size, **fields}
    return make_recipe(sequence_length=2048, runtime=runtime, **fields)


def estimate(model: str, recipe: Recipe, host: Host) -> MemoryEstimate:
    found = estimate_memory(recipe, architecture(model), foreseen_placement(recipe, host))
    assert found is not None
    return found


def plan(model: str, recipe: Recipe, host: Host) -> Forecast:
    data = {"tokens": PlanInput(DATA, Forecast(), None)}
    return forecast_training(recipe, architecture(model), data, host=host)


def test_the_plan_resolves_auto_for_the_device_it_assumes() -> None:
    def precision(host: Host, **fields: Any) -> str:
        return foreseen_placement(gpu_recipe(4, **fields), host).precision

    assert precision(host_with(A100)) == precision(host_with(None)) == "bf16-mixed"
    assert precision(host_with(T4)) == "16-mixed"
    assert precision(host_with(T4), runtime={"devices": 8, "strategy": "fsdp"}) == "32-true"
    assert precision(host_with(T4), optimizer={"lr": 0.1, "fused": True}) == "32-true"
    assert precision(host_with(A100), precision="32-true") == "32-true"
    assert precision(host_with(A100), runtime={"accelerator": "cpu"}) == "32-true"
    elsewhere = Host(MEMORY, has_cuda_device=False)
    assert precision(elsewhere) == "bf16-mixed"
    assert precision(elsewhere, runtime={"accelerator": "auto"}) == "32-true"


def test_auto_on_a_gpu_takes_the_memory_of_bf16() -> None:
    """83.5 GB were sure of pythia-410m while `auto` counted as fp32."""
    host = host_with(A100)
    auto = estimate("pythia-410m", gpu_recipe(32), host)
    assert auto == estimate("pythia-410m", gpu_recipe(32, precision="bf16-mixed"), host)
    assert 45e9 < auto.sure_bytes < 55e9
    assert estimate("pythia-410m", gpu_recipe(32, precision="32-true"), host).sure_bytes > 80e9
    never = {"activation_checkpointing": "off"}
    assert plan("pythia-1b", gpu_recipe(22, runtime=never), host).problems == ()


def test_autocast_keeps_16_bit_copies_of_the_weights() -> None:
    host = host_with(A100)
    mixed, true = (
        estimate("pythia-1b", gpu_recipe(1, precision=precision), host)
        for precision in ("bf16-mixed", "bf16-true")
    )
    parameters = architecture("pythia-1b").num_parameters()
    assert parameters is not None
    copies = 2 * (parameters - architecture("pythia-1b").embedding_size)
    stream = 3 * 2 * 2048 * 2048 * 16  # norms and residuals are in fp32 too
    assert mixed.activation_bytes - true.activation_bytes == copies + stream


def test_gradients_wait_for_the_activations_to_go_where_nothing_is_accumulated() -> None:
    """The peak is the larger of the two, unless a micro-batch before has left gradients."""
    host = host_with(A100)
    once = estimate("pythia-410m", gpu_recipe(2, global_batch_size=2), host)
    twice = estimate("pythia-410m", gpu_recipe(2, global_batch_size=4), host)
    parameters = architecture("pythia-410m").num_parameters()
    assert parameters is not None
    assert twice.total_bytes - once.total_bytes == 4 * parameters
    assert once.state_bytes == twice.state_bytes
    assert once.sure_bytes < twice.sure_bytes


def test_a_plan_refuses_what_this_machines_gpu_cannot_hold() -> None:
    never = {"runtime": {"activation_checkpointing": "off"}}
    (refusal,) = map(str, plan("pythia-1b", gpu_recipe(8, **never), host_with(T4)).problems)
    assert "a GPU here (Tesla T4) has 15.8 GB" in refusal
    assert "runtime.activation_checkpointing to full" in refusal
    on_nodes = {"runtime": {**never["runtime"], "num_nodes": 2}}
    doubtful = plan("pythia-1b", gpu_recipe(8, **on_nodes), host_with(T4))
    assert doubtful.problems == ()
    assert any("a GPU here (Tesla T4)" in str(warning) for warning in doubtful.warnings)


def test_a_plan_shards_a_large_model_as_training_will() -> None:
    """Whole, Llama-2-7b's state alone would be refused on 80 GB."""
    recipe = gpu_recipe(1, global_batch_size=64, runtime={"devices": 8})
    parameters = architecture("Llama-2-7b-hf").num_parameters()
    assert foreseen_placement(recipe, host_with(A100), parameters).strategy == "fsdp"
    assert foreseen_placement(recipe, host_with(A100), 1_000_000_000).strategy == "ddp"
    assert plan("Llama-2-7b-hf", recipe, host_with(A100)).problems == ()


def test_a_plan_counts_the_checkpointing_that_auto_will_choose() -> None:
    recipe = gpu_recipe(64)
    written = gpu_recipe(64, runtime={"activation_checkpointing": "selective"})
    planned = plan("pythia-410m", recipe, host_with(A100))
    assert planned.facts == plan("pythia-410m", written, host_with(A100)).facts
    assert planned.problems == ()


NVML = """\
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) {
    strncpy(s, (long)d == 1 ? "NVIDIA H100 80GB HBM3" : "Tesla T4", n); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *a, int *b) {
    *a = (long)d == 1 ? 9 : 7; *b = (long)d == 1 ? 0 : 5; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
    m->total = (long)d == 1 ? 85520809984ull : 16106127360ull; return 0; }
"""
"""A library that answers as NVIDIA's does, of an H100 and a T4."""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("init", [0, 9])
def test_devices_are_as_the_drivers_library_says(init: int, tmp_path: Path) -> None:
    source, library = tmp_path / "nvml.c", tmp_path / "libnvidia-ml.so.1"
    source.write_text(NVML)
    subprocess.run(["cc", "-shared", "-fPIC", f"-DINIT={init}", "-o", library, source], check=True)
    found = cuda_devices(str(library))
    h100 = CudaDevice("NVIDIA H100 80GB HBM3", (9, 0), 85_520_809_984)
    t4 = CudaDevice("Tesla T4", (7, 5), 16_106_127_360)
    assert found == ((h100, t4) if init == 0 else ())


def test_without_the_drivers_library_there_are_no_devices(tmp_path: Path) -> None:
    assert cuda_devices(str(tmp_path / "libnvidia-ml.so.1")) == ()


@pytest.mark.gpu
def test_the_drivers_library_says_what_torch_says() -> None:
    import torch

    device = cuda_devices()[0]
    properties = torch.cuda.get_device_properties(0)
    assert device.name == properties.name
    assert device.capability == (properties.major, properties.minor)
    assert device.memory_bytes == pytest.approx(properties.total_memory, rel=0.05)


def test_a_slurm_job_of_too_few_nodes_is_known_to_the_plan() -> None:
    recipe = gpu_recipe(1, runtime={"num_nodes": 3})
    job = Host(MEMORY, has_cuda_device=True, in_slurm_job=True, num_nodes=2)
    (found,) = machine_problems(recipe, job)
    assert (found.path, found.needs) == (("runtime", "num_nodes"), "machine")
    assert "this Slurm job has 2; submit it with --nodes=3" in found.message
    assert not list(machine_problems(recipe, replace(job, num_nodes=3)))
