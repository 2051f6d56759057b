"""Model weights on disk: the files of a LitGPT checkpoint, and how to read and write them.

Separate from `training/litgpt.py`, whose import takes a second longer than torch's.

Tied embeddings are one tensor: LitGPT's embedding and the weight of its output layer. The optimizer
and sharded checkpoints store it once, under the embedding's name. A file of full weights has both
names, as LitGPT expects, for one stored tensor.
"""

import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml
from torch import nn

from continuum.errors import IntegrityError, PreflightError
from continuum.experiment.architecture import Architecture
from continuum.runs.artifacts import CONFIG_FILE, SHARDS_DIR, WEIGHTS_FILE, copy_tokenizer
from continuum.runs.files import FileDigest, fsync_tree, hash_tree

PLAIN_FILE = "training_state.pth"
"""Counters, RNG state and the optimizer's plain settings, next to the shards."""
MODEL, OPTIMIZER = "model/", "optimizer/"
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
COMPARED_ROWS = 4096
"""At a time, of matrices on disk."""
PROOF_BYTES = 1 << 27
"""Of written weights, mapped into memory at a time while they are compared."""
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By element size: compared as integers, NaN equals itself and 0.0 does not equal -0.0."""


def copy_config_files(source: Path, target: Path) -> None:
    """Copy the files next to the weights of a LitGPT checkpoint: configs and the tokenizer."""
    copy_tokenizer(source, target)
    for name in (CONFIG_FILE, "config.json"):
        if (source / name).exists():
            shutil.copy(source / name, target)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The memory-mapped state dict in `folder`, which has a training checkpoint or weights.

    Raises:
        PreflightError: the file is not a LitGPT checkpoint.
    """
    path = folder / WEIGHTS_FILE
    if (folder / SHARDS_DIR).is_dir():
        weights: dict[str, torch.Tensor] = read_sharded(folder, with_optimizer=False)["model"]
        return weights
    try:
        loaded = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PreflightError(f"{path} not found; a LitGPT checkpoint folder has it") from None
    except Exception as error:
        raise PreflightError(f"{path} is not a LitGPT checkpoint: {_why_refused(error)}") from None
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        loaded = loaded["model"]
    if not isinstance(loaded, dict) or not all(torch.is_tensor(v) for v in loaded.values()):
        raise PreflightError(f"{path} is not a LitGPT checkpoint: it is not a dict of tensors")
    return {strip_wrapping(name): tensor for name, tensor in loaded.items()}


def _why_refused(error: Exception) -> str:
    """Why torch.load failed, without its advice to run the file's code (`weights_only=False`)."""
    message = str(error).strip()
    if isinstance(error, UnpicklingError):
        found = re.search(r"GLOBAL (\S+)", message)
        return f"it has Python objects{f' ({found[1]})' if found else ''}, not only tensors"
    if "use_new_zipfile_serialization" in message:
        return "it is not a zip file written by torch.save"
    if "failed reading zip archive" in message:
        return "it is truncated or corrupt"
    return message.splitlines()[0]


def strip_wrapping(name: str) -> str:
    """A parameter's name without the prefixes of Fabric, DDP and torch.compile."""
    for prefix in ("_forward_module.", "module.", "_orig_mod."):
        name = name.replace(prefix, "")
    return name


def stored_tensors(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Full size and type of every tensor in a sharded checkpoint, by its flat name."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # half a second
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    listed = FileSystemReader(folder / SHARDS_DIR).read_metadata().state_dict_metadata
    return {
        name: (entry.size, entry.properties.dtype)
        for name, entry in listed.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read_sharded(folder: Path, *, with_optimizer: bool = True) -> dict[str, Any]:
    """The snapshot in a folder of shards, with full tensors; not collective."""
    from torch.distributed.checkpoint.state_dict_loader import load

    flat = {
        name: torch.empty(size, dtype=dtype)
        for name, (size, dtype) in stored_tensors(folder).items()
        if with_optimizer or name.startswith(MODEL)
    }
    load(flat, checkpoint_id=folder / SHARDS_DIR, no_dist=True)
    plain: dict[str, Any] = torch.load(folder / PLAIN_FILE, weights_only=True)
    groups = plain.pop("param_groups")
    return {"model": with_head(below(flat, MODEL)), "optimizer": nested(flat, groups), **plain}


def below(flat: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose names have a prefix, without it."""
    return {name.removeprefix(prefix): v for name, v in flat.items() if name.startswith(prefix)}


def nested(flat: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """An optimizer's state by parameter name, from its flat entries and its param groups."""
    state: dict[str, dict[str, Any]] = {}
    for name, value in below(flat, OPTIMIZER).items():
        parameter, _, key = name.rpartition("/")
        state.setdefault(parameter, {})[key] = value
    return {"state": state, "param_groups": groups}


def with_head(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights including the output layer's, which a tied model has as the embedding."""
    if HEAD in weights or EMBEDDING not in weights:
        return dict(weights)
    return {HEAD: weights[EMBEDDING], **weights}


def tie_embeddings(model: Any) -> None:
    """Make the embedding's tensor the weight of the output layer."""
    head = model.lm_head
    head.weight = model.transformer.wte.weight
    # Register it again, after the embedding: a shared tensor gets the first name it is found under.
    del model.lm_head
    model.lm_head = head


def has_tied_embeddings(core: nn.Module) -> bool:
    """Whether embedding and output layer of LitGPT's model are one tensor."""
    parameters = dict(core.named_parameters(remove_duplicate=False))
    return HEAD in parameters and parameters[HEAD] is parameters.get(EMBEDDING)


def without_head(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of a tied model with the shared tensor only under the embedding's name."""
    return {name: tensor for name, tensor in weights.items() if name != HEAD}


def check_tied(folder: Path, *, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Check that embedding and output layer in a folder of weights are equal and can be tied.

    Args:
        weights: Those in the folder, if they are loaded already.

    Raises:
        PreflightError: they differ, so that one of them would be lost.
    """
    weights = load_weights(folder) if weights is None else weights
    if not _are_equal(weights[EMBEDDING], weights[HEAD]):
        raise PreflightError(
            f"{folder / WEIGHTS_FILE}: cannot tie embeddings (by `tied`, by config.json "
            f"or by the model's name): {EMBEDDING} and {HEAD} differ, so the model was trained "
            "untied; set `tied: false` on the stage that imports the weights, to train both"
        )


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    pairs = zip(torch.split(one, COMPARED_ROWS), torch.split(other, COMPARED_ROWS), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def extract_weights(checkpoint: Path, out: Path) -> tuple[FileDigest, ...]:
    """Write the weights of a training checkpoint to the folder `out`, and verify them.

    The tensors are memory-mapped and saved unchanged: no conversion, no second copy.

    Returns:
        The digests of the files in `out`, which are flushed to disk.

    Raises:
        IntegrityError: the written file does not have the same tensors.
        PreflightError: the number of parameters differs from the checkpoint's `model_config.yaml`.
    """
    weights = load_weights(checkpoint)
    _check_number(weights, checkpoint)
    torch.save(weights, out / WEIGHTS_FILE)
    copy_config_files(checkpoint, out)
    # Flush, hash and compare concurrently.
    with ThreadPoolExecutor(2) as pool:
        flushing = pool.submit(fsync_tree, out)
        hashing = pool.submit(hash_tree, out)
        _prove_equal(weights, out)
        flushing.result()
        return hashing.result()


def _check_number(weights: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    """Only count: training wrote the weights, and their bytes have been verified."""
    shape = Architecture(yaml.safe_load((checkpoint / CONFIG_FILE).read_text(encoding="utf-8")))
    number, wanted = sum(tensor.numel() for tensor in weights.values()), shape.num_parameters()
    if wanted is not None and number != wanted:
        raise PreflightError(
            f"{checkpoint / WEIGHTS_FILE} does not match {CONFIG_FILE}: it has {number:,} "
            f"parameters, but {shape.name} has {wanted:,}"
        )


def _prove_equal(weights: Mapping[str, torch.Tensor], out: Path) -> None:
    written: dict[str, torch.Tensor] = {}
    room = 0
    for name, tensor in weights.items():
        if room <= 0:
            # Reopen: pages that were read count as this process's memory while they are mapped.
            written.clear()
            written = load_weights(out)
            room = PROOF_BYTES
        room -= tensor.nbytes
        if not _is_same(tensor, written[name]):
            raise IntegrityError(
                f"{out / WEIGHTS_FILE}: {name} differs from the checkpoint after writing"
            )


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype:
        return False
    kind = INTEGERS[one.element_size()]
    return torch.equal(one.view(kind), other.view(kind))
