"""A tied model trains as `transformers` trains it, and is still tied after its export."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from litgpt.scripts.convert_lit_checkpoint import copy_weights_llama

from continuum.experiment.architecture import Architecture, architecture
from continuum.training.fabric import make_fabric
from continuum.training.litgpt import Config, convert_hf_weights
from continuum.training.model import make_state, next_token_loss
from continuum.training.resolved import resolve
from continuum.training.state import TrainingState, load_model
from continuum.training.weights import check_tied, load_weights
from tests.training.samples import make_recipe

transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
MAKE_SMOLLM2 = Path(__file__).parents[3] / "shared/models/make_smollm2.py"
TINY = {
    "n_layer": 2, "n_head": 4, "n_embd": 32, "n_query_groups": 2, "head_size": 8,
    "intermediate_size": 64, "vocab_size": 128, "padded_vocab_size": 128,
}  # fmt: skip
LENGTH = 16
STEPS = 3
ADAM = {"name": "AdamW", "lr": 1e-3, "weight_decay": 0.1}
SGD = {"name": "SGD", "lr": 1e-3}
"""Adam divides a gradient by its size: noise in the smallest of 134 million is a full step."""


def begin(
    shape: Architecture, optimizer: dict[str, Any], *, seed: int | None
) -> tuple[Any, TrainingState]:
    recipe = make_recipe(sequence_length=LENGTH, optimizer=optimizer)
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    fields = shape.fields
    return fabric, make_state(fabric, recipe, fields, resolved, seed=seed, tied=shape.tied)


def exported(state: TrainingState, shape: Architecture) -> dict[str, torch.Tensor]:
    """The weights with transformers' names, through LitGPT's converter."""
    found: dict[str, torch.Tensor] = {}
    copy_weights_llama(Config(**shape.fields), found, state.snapshot()["model"])
    return found


def losses_of_both(
    fabric: Any, state: TrainingState, theirs: Any, optimizer: torch.optim.Optimizer
) -> list[tuple[float, float]]:
    """Train both on the same tokens."""
    generator = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(STEPS):
        tokens = torch.randint(0, theirs.config.vocab_size, (4, LENGTH + 1), generator=generator)
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        ours = next_token_loss(state.model, inputs, targets)
        fabric.backward(ours)
        logits = theirs(input_ids=inputs).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        expected.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        for each in (state.optimizer, optimizer):
            each.step()
            each.zero_grad()
        losses.append((ours.item(), expected.item()))
    return losses


def assert_alike(state: TrainingState, shape: Architecture, theirs: Any, *, atol: float) -> None:
    found = exported(state, shape)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=atol)
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])


def test_a_tiny_tied_model_takes_the_steps_of_transformers() -> None:
    shape = architecture("SmolLM2-135M", TINY)
    assert shape.tied
    config = transformers.LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        rms_norm_eps=shape.fields["norm_eps"],
        rope_parameters={"rope_type": "default", "rope_theta": float(shape.fields["rope_base"])},
        tie_word_embeddings=True,
    )
    fabric, state = begin(shape, ADAM, seed=1)
    theirs = transformers.LlamaForCausalLM(config)
    theirs.load_state_dict(exported(state, shape))
    theirs.tie_weights()
    adam = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.1)
    for ours, expected in losses_of_both(fabric, state, theirs, adam):
        assert ours == pytest.approx(expected, abs=1e-5)
    assert_alike(state, shape, theirs, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not MAKE_SMOLLM2.exists(), reason="SmolLM2 is made by ../shared/models")
def test_smollm2_takes_the_steps_of_transformers(tmp_path: Path) -> None:
    command = [sys.executable, str(MAKE_SMOLLM2), str(tmp_path), "--dtype", "float32"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    convert_hf_weights(tmp_path, "SmolLM2-135M-Instruct")
    check_tied(tmp_path)
    shape = architecture("SmolLM2-135M-Instruct")
    fabric, state = begin(shape, SGD, seed=None)
    load_model(state.model, load_weights(tmp_path))
    sgd = torch.optim.SGD(theirs.parameters(), lr=1e-3)
    for ours, expected in losses_of_both(fabric, state, theirs, sgd):
        assert ours == pytest.approx(expected, rel=1e-5)  # of 11.9: the tokens are random
    assert_alike(state, shape, theirs, atol=1e-5)
