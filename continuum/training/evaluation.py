"""Validation loss, over all processes, and broken off when the run is to stop."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from lightning import Fabric
from torch import nn

from continuum.training.compiling import eagerly
from continuum.training.data import ValidationData, to_device
from continuum.training.loss import next_token_loss


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
        loss = evaluate(fabric, model, split, should_stop)
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
    split: ValidationData,
    should_stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Mean loss over the sequences of a split, each counting the same.

    Each batch's loss has a place of its own and all are added in one order, so the sum is the same
    however the batches were shared among processes.

    None when `should_stop` said so before the end.
    """
    model.eval()
    num_rows = split.num_rows
    own = torch.zeros(len(num_rows), device=fabric.device, dtype=torch.float64)
    for batch in split.batches():
        if should_stop():
            model.train()
            return None
        inputs, targets = to_device(fabric, batch.inputs, batch.targets)
        is_full = len(batch.inputs) == split.rows
        with nullcontext() if is_full else eagerly():  # once an evaluation: not worth a graph
            loss = next_token_loss(model, inputs, targets)
        if batch.number is not None:
            own[batch.number] = loss
    model.train()
    losses = fabric.all_reduce(own, reduce_op="sum")  # with zeros: each is of one process
    assert isinstance(losses, torch.Tensor)
    parts = [loss * rows for loss, rows in zip(losses.tolist(), num_rows, strict=True)]
    return math.fsum(parts) / sum(num_rows)
