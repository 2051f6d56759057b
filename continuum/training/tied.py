"""Tied embeddings: one tensor that is LitGPT's embedding and the weight of its output layer.

It bears the embedding's name, in the optimizer and in sharded checkpoints, where it lies once. A
file of whole weights has both names, as LitGPT reads it, for one stored tensor.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from continuum.errors import PreflightError
from continuum.training.weights import EMBEDDING, HEAD, WEIGHTS_FILE, load_weights

COMPARED_ROWS = 4096
"""At once, of matrices that lie on the disk."""


def tie_embeddings(model: Any) -> None:
    """Make the embedding's tensor the output layer's too."""
    head = model.lm_head
    head.weight = model.transformer.wte.weight
    # Registered anew, after the embedding: a tensor is called by the first name it is found under.
    del model.lm_head
    model.lm_head = head


def has_tied_embeddings(core: nn.Module) -> bool:
    """Whether embedding and output layer of LitGPT's model are one tensor."""
    parameters = dict(core.named_parameters(remove_duplicate=False))
    return HEAD in parameters and parameters[HEAD] is parameters.get(EMBEDDING)


def without_head(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of a tied model with its one tensor under the embedding's name alone."""
    return {name: tensor for name, tensor in weights.items() if name != HEAD}


def check_tied(folder: Path) -> None:
    """Compare the two matrices in a folder of weights that are to become one tensor.

    Raises:
        PreflightError: they differ, so that one of them would be lost.
    """
    check_loaded(load_weights(folder), folder)


def check_loaded(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """The same of weights that are loaded from the folder."""
    if not _are_equal(weights[EMBEDDING], weights[HEAD]):
        raise PreflightError(
            f"{folder / WEIGHTS_FILE}: {EMBEDDING} and {HEAD} differ, and the model's embeddings "
            "are to be tied (by `tied`, by its config.json or by its name): it was trained untied; "
            "say `tied: false` where the weights come in, to train both"
        )


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    pairs = zip(torch.split(one, COMPARED_ROWS), torch.split(other, COMPARED_ROWS), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
