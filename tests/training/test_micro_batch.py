"""`micro_batch_size: auto`: the largest that the forecast allows, and on a GPU a trial."""

import shutil
from typing import Any

import pytest
import torch
from torch import nn

from continuum.experiment.architecture import Architecture, architecture
from continuum.preflight.compatibility import batch_problems
from continuum.preflight.device_errors import describe_device_fault
from continuum.preflight.memory import fit_to_memory
from continuum.preflight.placement import Placement
from continuum.training.fabric import make_fabric
from continuum.training.memory import first_that_fits, largest_micro_batch
from continuum.training.model import make_state
from continuum.training.resolved import resolve
from continuum.training.state import TrainingState
from tests.training import samples
from tests.training.samples import FIELDS, Trials, cpu_fabric, make_recipe

SHAPE = architecture("pythia-410m")


def auto(**fields: Any) -> dict[str, Any]:
    return {"micro_batch_size": "auto", **fields}


def on_gpu(total_gb: float | None, batch: int = 192, **runtime: Any) -> tuple[int, str]:
    recipe = make_recipe(sequence_length=2048, global_batch_size=batch, runtime=auto(**runtime))
    total = None if total_gb is None else int(total_gb * 1e9)
    strategy = "single" if recipe.runtime.devices == 1 else "ddp"
    found, placement = fit_to_memory(recipe, SHAPE, Placement(False, strategy, "bf16-mixed"), total)
    return found.micro_batch_size, placement.activation_checkpointing


def test_it_is_the_largest_divisor_that_fits_without_computing_anything_again() -> None:
    assert on_gpu(80) == (24, "off")
    assert on_gpu(24) == (6, "off")
    assert on_gpu(80, devices=16) == (12, "off"), "no larger than a GPU's share"
    assert on_gpu(80, activation_checkpointing="full")[0] > 24
    assert on_gpu(2) == (1, "full"), "nothing fits"
    assert on_gpu(None) == (4, "off")


def test_a_cpu_takes_no_more_than_four() -> None:
    sizes = {}
    for batch in (1, 2, 6, 7, 64):
        recipe = make_recipe(global_batch_size=batch, runtime=auto())
        sizes[batch] = resolve(recipe, {}, Architecture(FIELDS)).micro_batch_size
    assert sizes == {1: 1, 2: 2, 6: 3, 7: 1, 64: 4}


def test_a_run_keeps_what_it_began_with() -> None:
    shape = Architecture(FIELDS)
    recipe = make_recipe(global_batch_size=64, runtime=auto())
    assert resolve(recipe, {"micro_batch_size": 16}, shape).micro_batch_size == 16
    assert resolve(recipe, {"micro_batch_size": 24}, shape).micro_batch_size == 4, "no divisor"
    written = make_recipe(global_batch_size=64, runtime={"micro_batch_size": 2})
    assert resolve(written, {"micro_batch_size": 16}, shape).micro_batch_size == 2


def test_it_is_no_problem_of_the_batch_but_for_the_processes() -> None:
    assert not list(batch_problems(make_recipe(global_batch_size=7, runtime=auto())))
    (problem,) = batch_problems(make_recipe(global_batch_size=7, runtime=auto(devices=2)))
    assert "not divisible by devices 2" in str(problem)


class Small(nn.Module):
    """A model on a device that has room for a few rows."""

    def __init__(self, most_rows: int, message: str = "CUDA out of memory.") -> None:
        super().__init__()
        self.most_rows, self.message = most_rows, message
        self.embedding = nn.Embedding(4, 4)
        self.tried: list[int] = []

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(tokens))
        if len(tokens) > self.most_rows:
            raise torch.OutOfMemoryError(self.message)
        found: torch.Tensor = self.embedding(tokens)
        return found


def state_of(model: nn.Module) -> TrainingState:
    fabric = cpu_fabric()
    wrapped = fabric.setup(model)
    prepared: Any = fabric.setup_optimizers(torch.optim.AdamW(wrapped.parameters()))
    return TrainingState(wrapped, prepared)


def test_a_trial_takes_the_first_that_runs_and_changes_nothing() -> None:
    model = Small(6)
    state, before = state_of(model), model.embedding.weight.clone()
    assert first_that_fits(cpu_fabric(), state, [16, 8, 4, 2], 8) == 4
    assert model.tried == [16, 8, 4, 4], "the second time beside gradients"
    assert torch.equal(model.embedding.weight, before)
    assert model.embedding.weight.grad is None
    assert first_that_fits(cpu_fabric(), state_of(Small(0)), [2, 1], 8) == 1
    assert not state.optimizer.state


def test_another_failure_of_a_trial_is_not_one_of_memory() -> None:
    class Broken(Small):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("No available kernel. Aborting execution.")

    with pytest.raises(RuntimeError, match="No available kernel") as caught:
        first_that_fits(cpu_fabric(), state_of(Broken(1)), [2, 1], 8)
    fault = describe_device_fault(caught.value)
    assert fault is not None
    assert "set runtime.attention to auto" in fault.message


def test_a_cpu_tries_nothing() -> None:
    recipe, shape = make_recipe(global_batch_size=64, runtime=auto()), Architecture(FIELDS)
    resolved, fabric = resolve(recipe, {}, shape), cpu_fabric()
    state = samples.make_state(fabric)
    assert largest_micro_batch(fabric, state, recipe, shape, resolved) == 4


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_trains_on_what_it_has_tried(compiled: bool) -> None:
    shape = architecture("pythia-160m")
    recipe = make_recipe(
        sequence_length=2048,
        global_batch_size=4096,
        runtime=auto(accelerator="cuda", compile="on" if compiled else "off"),
    )
    resolved = resolve(recipe, {}, shape)
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, shape.fields, resolved, seed=1)
    size = largest_micro_batch(fabric, state, recipe, shape, resolved)
    assert 8 <= size <= resolved.micro_batch_size
    assert 4096 % size == 0
    assert all(p.grad is None for p in state.model.parameters())


def test_what_was_chosen_is_recorded_and_the_same_stage_is_reused(trials: Trials) -> None:
    only = ("prose", "tokenizer", "tokens", "pretrain")
    trials.run(only=only, pretrain__max_steps=2, pretrain__runtime__micro_batch_size=4)
    written = trials.stage_run("pretrain")
    weights = trials.weights("pretrain")
    trials.write(only=only, pretrain__max_steps=2, pretrain__runtime__micro_batch_size="auto")
    assert {p.action.name for p in trials.plan()} == {"REUSE"}, "it is no part of the identity"
    shutil.rmtree(written.checkpoints_dir)
    for name in ("artifact.json", "resolved.json"):
        (written.path / name).unlink()
    trials.carry_out().raise_for_failure()
    assert trials.stage_run("pretrain").resolved()["micro_batch_size"] == 4
    again = trials.weights("pretrain")
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
