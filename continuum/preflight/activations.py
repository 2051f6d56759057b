"""Bytes that one micro-batch takes between its forward and its backward pass.

What autograd keeps is counted over LitGPT's modules as in Korthikanti et al. 2022
(arXiv:2205.05198, section 4.1), but without dropout and without scores, since
scaled_dot_product_attention keeps none. Activation checkpointing keeps less of each block, and
one block's all while it computes that again (`continuum.training.activation_checkpointing`).

Then the head: a block of logits at once, and the gradient of its weight, found with the loss and
kept until the backward pass comes (`continuum.training.loss_head`). Where all logits are held they
are usually the peak: the loss keeps their logarithmic softmax in fp32 and its gradient is as large.

What lasts from the forward to the backward pass is at its most when the head is computed, or, with
checkpointing, when the last block is computed again and its gradients come: the larger counts.

Tests compare the sums with the live bytes of the real model, counted on fake tensors.
"""

from typing import Any

from continuum.experiment.architecture import Architecture
from continuum.experiment.precision import is_half, is_mixed
from continuum.experiment.recipe import Recipe
from continuum.preflight.logits import has_fused_loss, rows_at_once
from continuum.preflight.model_size import StateSize, outer_and_block
from continuum.preflight.placement import Placement

LOGITS_COPIES = 2
BYTES_OF_FP32 = 4
BYTES_OF_HALF = 2


def activation_bytes(
    recipe: Recipe, architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    """Bytes at the peak of one micro-batch, beside the state."""
    c, tokens = architecture.fields, micro_batch_tokens(recipe)
    whole, kept = _block_bytes(c, placement), _kept_bytes(c, placement)
    head = _head_bytes(recipe, c, placement) + _weight_copy_bytes(architecture, size, placement)
    if placement.activation_checkpointing == "off":
        again = 0
    else:
        again = tokens * whole + _gathered_gradient_bytes(architecture, size, placement)
    return int(tokens * c["n_layer"] * kept + max(head, again))


def _head_bytes(recipe: Recipe, c: dict[str, Any], placement: Placement) -> int:
    """Logits in fp32, with what is made of them in place or as large, and the fused gradient.

    In 16 bits each product is made in them before it is added up in fp32.
    """
    tokens, vocabulary = micro_batch_tokens(recipe), c["padded_vocab_size"]
    if not has_fused_loss(c, placement.precision):
        return int(LOGITS_COPIES * tokens * vocabulary * BYTES_OF_FP32)
    rows = rows_at_once(tokens, vocabulary, on_cpu=placement.on_cpu)
    width = BYTES_OF_FP32 + BYTES_OF_HALF * is_half(placement.precision)
    return int((rows + c["n_embd"]) * vocabulary * width)


def _weight_copy_bytes(architecture: Architecture, size: StateSize, placement: Placement) -> int:
    """Autocast's copies of the weights that are multiplied: all but the embedding.

    Autograd keeps them from a layer's forward to its backward. With a checkpoint around each block
    autocast itself does, until the end of the forward. FSDP2 gathers weights in 16 bits to begin
    with.
    """
    if not is_mixed(placement.precision) or placement.strategy == "fsdp":
        return 0
    looked_up = 0 if architecture.tied else architecture.embedding_size
    return BYTES_OF_HALF * (size.num_parameters - looked_up)


def _gathered_gradient_bytes(
    architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    """Whole gradients of the head and of a block under FSDP2, the latter on its way to fp32."""
    if placement.strategy != "fsdp":
        return 0
    width = _widths(placement.precision)[0]
    _, block = outer_and_block(architecture, size.num_parameters)
    return width * architecture.embedding_size + (width + BYTES_OF_FP32) * block


def micro_batch_tokens(recipe: Recipe) -> int:
    """Tokens of one forward pass."""
    return recipe.micro_batch_size * recipe.sequence_length


def _widths(precision: str) -> tuple[int, int]:
    """Bytes of a number in matrices' products, and in the residual stream and norms."""
    width = BYTES_OF_HALF if is_half(precision) else BYTES_OF_FP32
    return width, BYTES_OF_FP32 if is_mixed(precision) else width


def _block_bytes(c: dict[str, Any], placement: Placement) -> int:
    """Bytes a token of all that autograd keeps of a block."""
    width, stream_width = _widths(placement.precision)
    return _stream_numbers(c) * stream_width + _inner_numbers(c) * width


def _kept_bytes(c: dict[str, Any], placement: Placement) -> int:
    """Bytes a token that are kept of a block until its backward."""
    mode = placement.activation_checkpointing
    if mode == "off":
        return _block_bytes(c, placement)
    width, stream_width = _widths(placement.precision)
    if placement.strategy == "fsdp":
        stream_width = width  # the embedding is gathered in 16 bits, and so the stream begins
    attention = _attention_kept(c) * width if mode == "selective" else 0
    return int(c["n_embd"] * stream_width) + attention


def _stream_numbers(c: dict[str, Any]) -> int:
    """Numbers a token in a block's residual stream and norms, which autocast leaves in fp32."""
    streams = 1 if c["parallel_residual"] else 2
    norms = 1 if c["shared_attention_norm"] else 2
    kept_by_norm = 2 if c["norm_class_name"] == "RMSNorm" else 1
    return int(c["n_embd"] * (streams + norms * kept_by_norm))


def _inner_numbers(c: dict[str, Any]) -> int:
    """Numbers a token in attention and MLP.

    Attention keeps queries, keys and values as it uses them, its output and, where keys and
    values are not copied for groups of heads, the joint projection that the values lie in. An MLP
    with a gate keeps two projections, the activation and the product; one without, half of that.
    """
    heads = c["n_head"] * c["head_size"]
    attention = 4 * heads if c["n_query_groups"] != c["n_head"] else 6 * heads
    mlp = (2 if c["mlp_class_name"] == "GptNeoxMLP" else 4) * c["intermediate_size"]
    return int(attention + mlp)


def _attention_kept(c: dict[str, Any]) -> int:
    """Numbers a token in the joint projection and in attention's output."""
    return int((2 * c["n_head"] + 2 * c["n_query_groups"]) * c["head_size"])
