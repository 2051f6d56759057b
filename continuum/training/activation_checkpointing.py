"""Activation checkpointing: compute parts of a block again in the backward pass, keep their inputs.

`full` keeps the input of each block (Chen et al. 2016, arXiv:1604.06174). `selective` keeps in
addition what attention is made of: the output of the block's first product, which is the joint
projection of queries, keys and values, and that of the attention kernel. What is computed again
then is norms, rotations and most of the MLP: about a ninth of a step's operations, against a fifth
with `full`, since neither needs the block's last product again.

torch's non-reentrant checkpoint stops as soon as it has what the backward pass asks for, works
inside FSDP2's hooks, under DDP, and in a compiled graph, and restores autocast. The same operations
run on the same numbers, so losses and gradients are those of a run without it, to the last bit
where kernels are deterministic. There is no dropout in LitGPT's GPT, so no random state is kept.
"""

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from continuum.training.litgpt import GPT

ATTENTION = frozenset(
    packet.default
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_fused_attention_overrideable",
    )
    if (packet := getattr(torch.ops.aten, name, None)) is not None
)
"""Kernels behind scaled_dot_product_attention that keep no scores."""
PRODUCTS = frozenset({torch.ops.aten.mm.default, torch.ops.aten.addmm.default})


def checkpoint_activations(model: GPT, mode: str) -> None:
    """Have each transformer block of the model compute its activations again.

    Names of modules and parameters stay as they are.

    Args:
        mode: `off`, `selective` or `full`.
    """
    if mode == "off":
        return
    options = {"context_fn": _keeping_attention} if mode == "selective" else {}
    for block in model.transformer.h:
        # On the instance: FSDP2 gives the block another class, and its hooks stay around this.
        block.forward = partial(_forward_again, block, **options)


def _forward_again(block: nn.Module, *inputs: Any, **options: Any) -> Any:
    forward = type(block).forward
    return checkpoint(
        forward, block, *inputs, use_reentrant=False, preserve_rng_state=False, **options
    )


def _keeping_attention() -> tuple[Any, Any]:
    """Contexts for a block's forward, and for doing it again."""
    products: Counter[bool] = Counter()

    def policy(
        ctx: SelectiveCheckpointContext, operation: Any, *_: Any, **__: Any
    ) -> CheckpointPolicy:
        is_first = operation in PRODUCTS and not products[ctx.is_recompute]
        products[ctx.is_recompute] += operation in PRODUCTS
        if is_first or operation in ATTENTION:
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    create: Any = create_selective_checkpoint_contexts
    contexts: tuple[Any, Any] = create(policy)
    return contexts
