"""A training checkpoint's weights in LitGPT's standard layout."""

from pathlib import Path

import torch

from continuum.errors import IntegrityError
from continuum.training.litgpt import (
    WEIGHTS_FILE,
    check_weights,
    copy_config_files,
    load_weights,
)


def extract_weights(checkpoint: Path, out: Path) -> None:
    """Write the weights of `checkpoint` to the folder `out`, and prove them equal.

    The tensors are memory-mapped and saved as they are: no change of type, no second copy.

    Raises:
        IntegrityError: what was written does not hold the same tensors.
        PreflightError: keys or shapes do not fit the checkpoint's own `model_config.yaml`.
    """
    weights = load_weights(checkpoint)
    torch.save(weights, out / WEIGHTS_FILE)
    copy_config_files(checkpoint, out)
    check_weights(out)
    written = load_weights(out)
    for name, tensor in weights.items():
        if tensor.dtype != written[name].dtype or not torch.equal(
            tensor.view(torch.uint8), written[name].view(torch.uint8)
        ):
            raise IntegrityError(f"{out / WEIGHTS_FILE}: {name} was not written as it was read")
