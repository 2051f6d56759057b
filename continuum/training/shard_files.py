"""What lies in a sharded checkpoint, and how one process reads it whole.

The tensors are saved under flat names, so that the metadata alone says what there is, whatever
number of processes wrote it.
"""

from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from continuum.training.tied import with_head
from continuum.training.weights import SHARDS_DIR

PLAIN_FILE = "training_state.pth"
"""Counters, RNG and the optimizer's plain settings, beside the shards."""
MODEL, OPTIMIZER = "model/", "optimizer/"


def stored_tensors(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Whole size and type of every tensor in a sharded checkpoint, by its flat name."""
    listed = FileSystemReader(folder / SHARDS_DIR).read_metadata().state_dict_metadata
    return {
        name: (entry.size, entry.properties.dtype)
        for name, entry in listed.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read_whole(folder: Path, *, with_optimizer: bool = True) -> dict[str, Any]:
    """The snapshot in `folder` with whole tensors, read by this process alone."""
    flat = {
        name: torch.empty(size, dtype=dtype)
        for name, (size, dtype) in stored_tensors(folder).items()
        if with_optimizer or name.startswith(MODEL)
    }
    load(flat, checkpoint_id=folder / SHARDS_DIR, no_dist=True)
    plain: dict[str, Any] = torch.load(folder / PLAIN_FILE, weights_only=True)
    groups = plain.pop("param_groups")
    return {"model": with_head(below(flat, MODEL)), "optimizer": nested(flat, groups), **plain}


def read_model(folder: Path) -> dict[str, Any]:
    """The weights alone, whole; the optimizer's shards are not read."""
    weights: dict[str, Any] = read_whole(folder, with_optimizer=False)["model"]
    return weights


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
