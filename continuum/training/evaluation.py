"""Validation loss, over all processes, and broken off when the run is to stop."""

from collections.abc import Callable, Iterable, Mapping

import torch
from lightning import Fabric
from torch import nn

from continuum.training.data import ValidationData, to_device
from continuum.training.loss import next_token_loss

Batch = tuple[torch.Tensor, torch.Tensor, int]
"""Inputs, targets, and how many rows of them count."""


def evaluate_all(
    fabric: Fabric,
    model: nn.Module,
    validation: Mapping[str, ValidationData],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Validation losses in nats a token: `val_loss` of the first split, `val_loss/NAME` of all.

    None when `should_stop` said so before they were known.
    """
    losses: dict[str, float] = {}
    for name, split in validation.items():
        loss = evaluate(fabric, model, split.batches(), should_stop)
        if loss is None:
            return None
        losses[name] = loss
    first = next(iter(losses.values()))
    named = {f"val_loss/{name}": loss for name, loss in losses.items()} if len(losses) > 1 else {}
    return {"val_loss": first, **named}


@torch.no_grad()
def evaluate(
    fabric: Fabric,
    model: nn.Module,
    batches: Iterable[Batch],
    should_stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Mean loss over the batches of all processes, each row counting the same.

    None when `should_stop` said so before the end.
    """
    model.eval()
    sums = torch.zeros(2, device=fabric.device, dtype=torch.float64)
    for inputs, targets, num_rows in batches:
        if should_stop():
            model.train()
            return None
        inputs, targets = to_device(fabric, inputs, targets)
        loss = next_token_loss(model, inputs, targets)
        sums += torch.stack((loss.double() * num_rows, torch.full_like(loss, num_rows).double()))
    model.train()
    total = fabric.all_reduce(sums, reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return float((total[0] / total[1]).item())
