"""The loss of a batch, by whatever way the model has to it."""

import torch
from torch import nn

from continuum.training.litgpt import loss_of_logits
from continuum.training.loss_head import LossHead
from continuum.training.state import unwrap


def next_token_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of what the model predicts after `inputs` (B, T).

    Where its head can, the model gives the loss itself, in its one forward pass, which is what
    DDP and FSDP2 wrap; otherwise all its logits are held.

    Args:
        targets: The tokens that follow, (B, T).
    """
    head = getattr(unwrap(model), "lm_head", None)
    if not isinstance(head, LossHead):
        return loss_of_logits(model(inputs), targets)
    head.targets = targets
    try:
        loss: torch.Tensor = model(inputs)
    finally:
        head.targets = None
    return loss
