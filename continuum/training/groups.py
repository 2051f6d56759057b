"""Parameter groups: which of LitGPT's parameters weight decay leaves alone."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from continuum.training.weights import strip_wrapping


def parameter_groups(model: nn.Module, exempt: Iterable[str]) -> list[dict[str, Any]]:
    """The trainable parameters in one group, or in two: with weight decay and without.

    Args:
        exempt: Of `norms`, `biases`, `embeddings`.
    """
    exempt = set(exempt)
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        target = spared if kind_of(strip_wrapping(name)) in exempt else decayed
        target.append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}]
    return [*groups, {"params": spared, "weight_decay": 0.0}] if spared else groups


def kind_of(name: str) -> str:
    """`norms`, `biases`, `embeddings` or `matrices`, by the names in LitGPT's `GPT`."""
    parts = name.split(".")
    if any("norm" in part or part == "ln_f" for part in parts):
        return "norms"
    if parts[-1] == "bias":
        return "biases"
    return "embeddings" if "wte" in parts else "matrices"
