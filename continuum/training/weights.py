"""Model weights on disk: the files of a LitGPT checkpoint, and how their tensors are read.

Apart from `training/litgpt.py`, whose import takes a second longer than torch's.
"""

import shutil
from pathlib import Path

import torch

from continuum.artifacts import copy_tokenizer
from continuum.errors import PreflightError

WEIGHTS_FILE = "lit_model.pth"
CONFIG_FILE = "model_config.yaml"
SHARDS_DIR = "shards"
"""Holds the tensors of a sharded checkpoint instead of `WEIGHTS_FILE`."""


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
        from continuum.training.shard_files import read_model

        return read_model(folder)
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
