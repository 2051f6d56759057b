"""Models small enough to write by hand: LitGPT's layout, and GPT-NeoX as on the Hub."""

import json
from pathlib import Path
from typing import Any

import torch
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.utils import save_config
from safetensors.torch import save_file

TINY: dict[str, Any] = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 32,
    "vocab_size": 512,
    "padded_vocab_size": 512,
    "intermediate_size": 32,
}


def write_litgpt_weights(folder: Path) -> None:
    """`lit_model.pth` and `model_config.yaml` of a one-layer pythia."""
    folder.mkdir(parents=True, exist_ok=True)
    config = Config.from_name("pythia-14m", **TINY)
    torch.manual_seed(0)
    torch.save(GPT(config).state_dict(), folder / "lit_model.pth")
    save_config(config, folder)


def write_gpt_neox(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """`model.safetensors` and `config.json` with the shapes of LitGPT's config `name`."""
    config = Config.from_name(name)
    width, vocabulary = config.n_embd, config.padded_vocab_size
    shapes: dict[str, tuple[int, ...]] = {
        "gpt_neox.embed_in.weight": (vocabulary, width),
        "gpt_neox.final_layer_norm.weight": (width,),
        "gpt_neox.final_layer_norm.bias": (width,),
        "embed_out.weight": (vocabulary, width),
    }
    linears = {
        "attention.query_key_value": (3 * width, width),
        "attention.dense": (width, width),
        "mlp.dense_h_to_4h": (config.intermediate_size, width),
        "mlp.dense_4h_to_h": (width, config.intermediate_size),
    }
    for layer in range(config.n_layer):
        prefix = f"gpt_neox.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{prefix}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for linear, shape in linears.items():
            shapes[f"{prefix}.{linear}.weight"] = shape
            shapes[f"{prefix}.{linear}.bias"] = shape[:1]
    torch.manual_seed(0)
    weights = {key: torch.randn(shape).half() for key, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))
    return weights
