"""A sharded model's random start: the bytes that one process would draw, without the whole model.

Every process draws every parameter, since all come from one random stream, and keeps its shard of
each: it holds one whole parameter at a time, and the processes exchange nothing.
"""

from collections.abc import Iterator

import torch
from lightning import Fabric
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from continuum.errors import PreflightError
from continuum.training.litgpt import GPT, initialize_weights
from continuum.training.state import unwrap
from continuum.training.tied import HEAD, has_tied_embeddings


def initialize_shards(fabric: Fabric, model: nn.Module, template: GPT, seed: int) -> None:
    """Fill a sharded model as `initialize_weights` would fill `template` after this seed.

    Args:
        template: The same model, whole, on the meta device.

    Raises:
        PreflightError: LitGPT does not say how some part of this model begins.
    """
    config = template.config
    # On the meta device this draws nothing; it tells each module how its weights begin.
    initialize_weights(fabric, template, n_layer=config.n_layer, n_embd=config.n_embd)
    fabric.seed_everything(seed, verbose=False)
    core = unwrap(model)
    shards = dict(core.named_parameters())
    with torch.no_grad():
        for name, whole in _drawn(template, fabric.device):
            if name == HEAD and has_tied_embeddings(core):
                continue  # the embedding's values are the start of both
            shards[name].copy_(_as(shards[name], whole))


def _drawn(template: GPT, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Each parameter with its first values, in the order of LitGPT's `reset_parameters`."""
    for place, module in template.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        reset = getattr(module, "reset_parameters", None)
        if not callable(reset):
            raise PreflightError(
                f"LitGPT does not say how the weights of {type(module).__name__} ({place}) begin: "
                "this model cannot be pretrained with strategy fsdp; retrain from its weights"
            )
        module.to_empty(device=device, recurse=False)
        reset()
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{place}.{name}", parameter.detach()
        module.to_empty(device="meta", recurse=False)


def _as(parameter: nn.Parameter, whole: torch.Tensor) -> torch.Tensor:
    """The whole tensor, sharded as the parameter is, by each process for itself."""
    assert isinstance(parameter, DTensor)
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(whole, mesh, placements, src_data_rank=None)
