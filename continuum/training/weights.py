"""Model weights on disk: the files of a LitGPT checkpoint, and how their tensors are read.

Apart from `training/litgpt.py`, whose import takes a second longer than torch's.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from continuum.errors import PreflightError
from continuum.runs.artifacts import copy_tokenizer

WEIGHTS_FILE = "lit_model.pth"
CONFIG_FILE = "model_config.yaml"
SHARDS_DIR = "shards"
"""Holds the tensors of a sharded checkpoint instead of `WEIGHTS_FILE`, under flat names."""
PLAIN_FILE = "training_state.pth"
"""Counters, RNG and the optimizer's plain settings, beside the shards."""
MODEL, OPTIMIZER = "model/", "optimizer/"
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"


def copy_config_files(source: Path, target: Path) -> None:
    """Copy what lies beside the weights of LitGPT's checkpoints: configs and the tokenizer."""
    copy_tokenizer(source, target)
    for name in (CONFIG_FILE, "config.json"):
        if (source / name).exists():
            shutil.copy(source / name, target)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The state dict in `folder`, of a training checkpoint or of weights, memory-mapped.

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
        raise PreflightError(f"{path} is missing; a LitGPT checkpoint folder holds it") from None
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise PreflightError(f"{path} is not a readable LitGPT checkpoint: {first}") from None
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        loaded = loaded["model"]
    if not isinstance(loaded, dict) or not all(torch.is_tensor(v) for v in loaded.values()):
        raise PreflightError(f"{path} holds no state dict of tensors")
    return {strip_wrapping(name): tensor for name, tensor in loaded.items()}


def strip_wrapping(name: str) -> str:
    """A parameter's name without what torch.compile and DDP put before it."""
    for prefix in ("_forward_module.", "module.", "_orig_mod."):
        name = name.replace(prefix, "")
    return name


def stored_tensors(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Whole size and type of every tensor in a sharded checkpoint, by its flat name."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # half a second
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    listed = FileSystemReader(folder / SHARDS_DIR).read_metadata().state_dict_metadata
    return {
        name: (entry.size, entry.properties.dtype)
        for name, entry in listed.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read_sharded(folder: Path, *, with_optimizer: bool = True) -> dict[str, Any]:
    """The snapshot in a folder of shards with whole tensors, read by this process alone."""
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
    """The entries under a prefix, without it."""
    return {name.removeprefix(prefix): v for name, v in flat.items() if name.startswith(prefix)}


def nested(flat: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """An optimizer's state by parameter name, from its flat entries and its param groups."""
    state: dict[str, dict[str, Any]] = {}
    for name, value in below(flat, OPTIMIZER).items():
        parameter, _, key = name.rpartition("/")
        state.setdefault(parameter, {})[key] = value
    return {"state": state, "param_groups": groups}


def with_head(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights with the output layer's, which a tied model keeps under the embedding's name."""
    if HEAD in weights or EMBEDDING not in weights:
        return dict(weights)
    return {HEAD: weights[EMBEDDING], **weights}
