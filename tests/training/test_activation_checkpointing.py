"""Activation checkpointing changes no number, needs no graph more, and is chosen by the memory."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from continuum.experiment.architecture import Architecture, architecture
from continuum.preflight.memory import estimate_memory, fit_to_memory
from continuum.preflight.placement import Placement
from continuum.training.litgpt import build_model, initialize_weights
from continuum.training.model import checkpoint_activations, next_token_loss
from continuum.training.resolved import resolve
from tests.training.live_bytes import LiveBytes
from tests.training.samples import FIELDS, LENGTH, VOCABULARY, cpu_fabric, make_recipe

LLAMA = architecture(
    "Llama-3.2-1B",
    {
        "n_layer": 2, "n_embd": 32, "n_head": 4, "n_query_groups": 2, "head_size": 8,
        "intermediate_size": 48, "padded_vocab_size": VOCABULARY, "block_size": 32,
    },
).fields  # fmt: skip
MODES = ("full", "selective")


class Found:
    """What one step of a model with random weights comes to."""

    def __init__(
        self, fields: dict[str, Any], mode: str, precision: str, backend: str | None = None
    ) -> None:
        fabric = cpu_fabric(precision=precision)
        torch.manual_seed(0)
        model = build_model(fabric, fields, LENGTH)
        config = model.config
        initialize_weights(fabric, model, n_layer=config.n_layer, n_embd=config.n_embd)
        names = list(model.state_dict())
        checkpoint_activations(model, mode)
        assert list(model.state_dict()) == names
        compiled: Any = torch.compile(model, backend=backend) if backend else model
        inputs = torch.randint(VOCABULARY, (2, LENGTH))
        live = LiveBytes()
        counting = nullcontext() if backend else live
        with counting, fabric.autocast():
            loss = next_token_loss(compiled, inputs, inputs.roll(1))
            self.kept_bytes = live.now
        torch.autograd.backward(loss)
        self.numbers = [loss.detach(), *(p.grad for p in model.parameters())]

    def equals(self, other: "Found") -> bool:
        return all(map(torch.equal, self.numbers, other.numbers))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("fields", [FIELDS, LLAMA], ids=["pythia", "llama"])
@pytest.mark.parametrize("mode", MODES)
def test_loss_and_gradients_are_the_same_bits(
    mode: str, fields: dict[str, Any], precision: str
) -> None:
    plain, again = Found(fields, "off", precision), Found(fields, mode, precision)
    assert again.equals(plain)
    assert 0 < again.kept_bytes < plain.kept_bytes


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_compiled_model_gives_the_same_bits_from_as_many_graphs(mode: str) -> None:
    def graphs(mode: str) -> tuple[Found, int, int]:
        torch.compiler.reset()
        counters.clear()
        found = Found(FIELDS, mode, "bf16-mixed", "aot_eager")
        return found, counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())

    plain, again = graphs("off"), graphs(mode)
    assert again[0].equals(plain[0])
    assert again[1:] == plain[1:]


def test_auto_does_the_least_with_which_training_fits() -> None:
    """On GPUs of 80 and 24 GB, and one that holds not even the weights."""
    shape = architecture("pythia-410m")
    placement = Placement(False, "single", "bf16-mixed")

    def chosen(size: int, total_gb: float | None, **runtime: Any) -> str:
        runtime |= {"micro_batch_size": size}
        recipe = make_recipe(sequence_length=2048, global_batch_size=256, runtime=runtime)
        total = None if total_gb is None else int(total_gb * 1e9)
        return fit_to_memory(recipe, shape, placement, total)[1].activation_checkpointing

    assert [chosen(size, 80) for size in (8, 24, 64)] == ["off", "off", "selective"]
    assert [chosen(size, 24) for size in (4, 16, 32)] == ["off", "selective", "full"]
    assert chosen(4, 2) == "full"
    assert chosen(64, None) == "off"
    assert chosen(64, 80, activation_checkpointing="off") == "off"
    assert chosen(4, 80, activation_checkpointing="full") == "full"


def test_a_shape_that_is_not_counted_is_trained_as_ever() -> None:
    mixture = architecture("Mixtral-8x7B-v0.1")
    placement = Placement(False, "single", "bf16-mixed")
    assert fit_to_memory(make_recipe(), mixture, placement, 1000)[1] == placement


def test_each_mode_takes_less_than_the_one_before() -> None:
    recipe = make_recipe(sequence_length=2048)
    sizes = []
    for mode in ("off", "selective", "full"):
        placement = Placement(False, "single", "bf16-mixed", mode)
        found = estimate_memory(recipe, architecture("pythia-1b"), placement)
        assert found is not None
        sizes.append(found.activation_bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("mode", ["off", "selective", "full"])
def test_what_is_written_is_resolved_and_recorded(mode: str) -> None:
    recipe = make_recipe(runtime={"activation_checkpointing": mode})
    resolved = resolve(recipe, {}, Architecture(FIELDS))
    assert resolved.activation_checkpointing == mode


def test_a_small_model_keeps_its_activations() -> None:
    recipe = make_recipe()
    resolved = resolve(recipe, {}, Architecture(FIELDS))
    assert resolved.activation_checkpointing == "off"
