"""A training checkpoint's weights in LitGPT's standard layout."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import yaml

from continuum.errors import IntegrityError, PreflightError
from continuum.experiment.architecture import Architecture
from continuum.runs.files import FileDigest, fsync_tree, hash_tree
from continuum.training.weights import CONFIG_FILE, WEIGHTS_FILE, copy_config_files, load_weights

PROOF_BYTES = 1 << 27
"""Of what was written, mapped into memory at a time while it is compared."""
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the bytes of an element: compared as these, NaN equals itself and 0.0 is not -0.0."""


def extract_weights(checkpoint: Path, out: Path) -> tuple[FileDigest, ...]:
    """Write the weights of `checkpoint` to the folder `out`, and prove them equal.

    The tensors are memory-mapped and saved as they are: no change of type, no second copy.

    Returns:
        The digests of the files in `out`, which are flushed to the disk.

    Raises:
        IntegrityError: what was written does not hold the same tensors.
        PreflightError: there are more or fewer than the checkpoint's own `model_config.yaml` says.
    """
    weights = load_weights(checkpoint)
    _check_number(weights, checkpoint)
    torch.save(weights, out / WEIGHTS_FILE)
    copy_config_files(checkpoint, out)
    # The disk, the hash and the comparison do not wait for each other.
    with ThreadPoolExecutor(2) as pool:
        flushing = pool.submit(fsync_tree, out)
        hashing = pool.submit(hash_tree, out)
        _prove_equal(weights, out)
        flushing.result()
        return hashing.result()


def _check_number(weights: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    """All the weights are there: training wrote them, and their bytes have been verified."""
    shape = Architecture(yaml.safe_load((checkpoint / CONFIG_FILE).read_text(encoding="utf-8")))
    number, wanted = sum(tensor.numel() for tensor in weights.values()), shape.num_parameters()
    if wanted is not None and number != wanted:
        raise PreflightError(
            f"{checkpoint / WEIGHTS_FILE} does not fit {CONFIG_FILE}: it holds {number:,} "
            f"parameters where {shape.name} has {wanted:,}"
        )


def _prove_equal(weights: Mapping[str, torch.Tensor], out: Path) -> None:
    written: dict[str, torch.Tensor] = {}
    room = 0
    for name, tensor in weights.items():
        if room <= 0:
            # Opened anew: pages that were read count as this process's memory while mapped.
            written.clear()
            written = load_weights(out)
            room = PROOF_BYTES
        room -= tensor.nbytes
        if not _is_same(tensor, written[name]):
            raise IntegrityError(f"{out / WEIGHTS_FILE}: {name} was not written as it was read")


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype:
        return False
    kind = INTEGERS[one.element_size()]
    return torch.equal(one.view(kind), other.view(kind))
