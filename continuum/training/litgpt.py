"""The only import of LitGPT in continuum: its functions are called, not rewritten.

`pretrain.setup/main/save_checkpoint` cannot be called, since they parse `sys.argv` again at the
first checkpoint, so the loop, the folder and the record are continuum's own.
"""

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning import Fabric
from litgpt import Config
from litgpt.model import GPT
from litgpt.pretrain import initialize_weights
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
from litgpt.utils import chunked_cross_entropy, save_config, validate_checkpoint
from torch import nn

from continuum.errors import PreflightError, StageFailedError
from continuum.preflight.model_size import has_fused_loss
from continuum.runs.artifacts import CONFIG_FILE, WEIGHTS_FILE
from continuum.sources.model_files import refuse_training_checkpoint
from continuum.training.loss_head import LossHead
from continuum.training.weights import load_weights

CROSS_ENTROPY_ROWS = 128
"""LitGPT's default: rows of logits whose loss is computed at a time."""

__all__ = [
    "GPT",
    "Config",
    "build_model",
    "check_weights",
    "convert_hf_weights",
    "initialize_weights",
    "loss_of_logits",
    "save_config",
    "set_rope_cache",
]


def build_model(
    fabric: Fabric,
    fields: dict[str, Any],
    sequence_length: int,
    *,
    has_compiled_head: bool = False,
) -> GPT:
    """Build an uninitialized GPT with a RoPE cache of `sequence_length`.

    It is on the device; under FSDP2, on the meta device until it is sharded.

    Args:
        fields: LitGPT's `Config` as a dictionary, as in `model_config.yaml`.
        sequence_length: Tokens in a training sequence; at most the config's `block_size`.
        has_compiled_head: Whether torch.compile fuses the passes of the loss head.
    """
    with fabric.init_module(empty_init=True):
        model = GPT(Config(**fields))
    model.max_seq_length = sequence_length
    is_plain = type(model.lm_head) is nn.Linear
    if is_plain and has_fused_loss(fields, fabric.strategy.precision.precision):
        model.lm_head = LossHead.adopt(model.lm_head, is_compiled=has_compiled_head)
    return model


def set_rope_cache(core: Any) -> None:
    """Recompute the RoPE cache in fp32, since Fabric may have cast it to the type of the weights.

    In bf16, which represents integers only up to 256, later positions would share their angles.
    """
    core.reset_parameters()


def loss_of_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of `logits` (B, T, vocabulary) for `targets` (B, T)."""
    loss: torch.Tensor = chunked_cross_entropy(logits, targets, chunk_size=CROSS_ENTROPY_ROWS)
    return loss


def check_weights(folder: Path) -> None:
    """Compare a folder of weights with its `model_config.yaml`, without allocating the model.

    Raises:
        PreflightError: files are missing, keys or shapes differ, or it is a training checkpoint.
    """
    path = folder / WEIGHTS_FILE
    if not (folder / CONFIG_FILE).is_file():
        raise PreflightError(f"{folder / CONFIG_FILE} not found; a LitGPT checkpoint folder has it")
    load_weights(folder)
    refuse_training_checkpoint(path)
    with torch.device("meta"):
        model = GPT(Config.from_file(folder / CONFIG_FILE))
    result = validate_checkpoint(path, model, verbose=False)
    if not result.is_valid:
        raise PreflightError(f"{path} does not match {CONFIG_FILE}: {_first_errors(result)}")


def convert_hf_weights(folder: Path, model_name: str) -> None:
    """Convert Hugging Face weights in `folder` to LitGPT's layout, in the same folder.

    Raises:
        StageFailedError: LitGPT's converter does not know the model or its keys.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            convert_hf_checkpoint(folder, model_name=model_name)
    except (KeyError, ValueError, RuntimeError) as error:
        raise StageFailedError(
            f"LitGPT cannot convert the weights in {folder} as {model_name!r}: {error}; "
            "is `model` the LitGPT config name of this repository?"
        ) from error


def _first_errors(result: Any, at_most: int = 3) -> str:
    listed: list[str] = [
        *result.errors,
        *(f"missing {key}" for key in result.missing_keys),
        *(f"unexpected {key}" for key in result.unexpected_keys),
        *result.shape_mismatches,
    ]
    more = f" and {len(listed) - at_most} more" if len(listed) > at_most else ""
    return "; ".join(listed[:at_most]) + more
