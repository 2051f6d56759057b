"""Which parameters weight decay leaves alone."""

import pytest
import torch
from litgpt import Config
from litgpt.model import GPT

from continuum.training.model import kind_of, parameter_groups


@pytest.fixture
def model() -> GPT:
    with torch.device("meta"):
        return GPT(Config.from_name("pythia-14m"))


def test_without_a_wish_all_parameters_decay(model: GPT) -> None:
    (group,) = parameter_groups(model, ())
    assert len(group["params"]) == len(list(model.parameters()))
    assert "weight_decay" not in group


def test_norms_biases_and_embeddings_can_be_spared(model: GPT) -> None:
    decayed, spared = parameter_groups(model, ("norms", "biases", "embeddings"))
    assert spared["weight_decay"] == 0.0
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    names = {id(p): name for name, p in model.named_parameters()}
    assert "transformer.wte.weight" in {names[id(p)] for p in spared["params"]}
    assert "lm_head.weight" in {names[id(p)] for p in decayed["params"]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("transformer.wte.weight", "embeddings"),
        ("transformer.h.0.norm_1.bias", "norms"),
        ("transformer.h.0.attn.norm_q.weight", "norms"),
        ("transformer.ln_f.weight", "norms"),
        ("transformer.h.0.attn.qkv.bias", "biases"),
        ("transformer.h.0.mlp.fc.weight", "matrices"),
        ("lm_head.weight", "matrices"),
    ],
)
def test_every_parameter_of_litgpt_has_a_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind
