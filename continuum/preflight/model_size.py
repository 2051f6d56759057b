"""Bytes of a model in training: its state, its activations and its logits.

Activations that autograd stores are counted over LitGPT's modules as in Korthikanti et al. 2022
(arXiv:2205.05198, section 4.1), but without dropout and without attention scores, since
scaled_dot_product_attention does not store them. Activation checkpointing stores less of each
block, plus all of one block while that is recomputed (`continuum.training.model`).

The head adds a block of logits at a time, and the gradient of its weight, which is computed with
the loss and kept until the backward pass (`continuum.training.loss_head`). Where all logits are
held they are usually the peak: the loss stores their log-softmax in fp32, and its gradient is as
large.

The peak between forward and backward pass is either when the head is computed or, with
checkpointing, when the last block is recomputed and its gradients arrive: the larger counts.

Tests compare the sums with the live bytes of the real model, counted on fake tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from continuum.experiment.architecture import Architecture
from continuum.experiment.precision import is_half, is_mixed
from continuum.experiment.recipe import Recipe
from continuum.preflight.placement import Placement

CPU_BLOCK_BYTES = 1 << 26
"""Of fp32 logits at a time. Measured with a vocabulary of 50,304: 256 rows at a time are 4 % faster
than 128 and as fast as 512."""
DEVICE_BLOCK_BYTES = 1 << 28
"""On a GPU: larger, to keep it busy."""
LEAST_ROWS = 64
"""For any vocabulary size: products of fewer rows are slow."""
LOGITS_COPIES = 2
BYTES_OF_FP32 = 4
BYTES_OF_HALF = 2


@dataclass(frozen=True)
class StateSize:
    """Bytes of the full state, over all processes that share it."""

    num_parameters: int
    weights_bytes: int
    gradients_bytes: int
    moments_bytes: int
    """The optimizer's state for each parameter, such as Adam's two moments."""

    @property
    def checkpoint_bytes(self) -> int:
        """Of a training checkpoint: weights and optimizer."""
        return self.weights_bytes + self.moments_bytes


def bytes_per_parameter(precision: str) -> int:
    """Of the stored weights: fp32 with `-mixed`, which `auto` uses, too."""
    return 2 if precision == "bf16-true" else 4


def state_size(
    recipe: Recipe, architecture: Architecture | None, precision: str | None = None
) -> StateSize | None:
    """The training state of a model under a recipe; None if its parameters cannot be counted.

    Gradients and moments have the type of the weights, in torch and in Fabric's precisions.

    Args:
        precision: The recipe's, once `auto` is resolved; either gives the same sizes.
    """
    num_parameters = architecture.num_parameters() if architecture else None
    if num_parameters is None:
        return None
    weights = num_parameters * bytes_per_parameter(precision or recipe.precision)
    return StateSize(num_parameters, weights, weights, weights * recipe.optimizer.num_moments)


def outer_and_block(architecture: Architecture, num_parameters: int) -> tuple[int, int]:
    """Parameters of embedding and output layer, and of one transformer block."""
    outer = (2 - architecture.tied) * architecture.embedding_size
    return outer, (num_parameters - outer) // int(architecture.fields["n_layer"])


LossHeadKind = Literal["blocks", "compiled", "logits"]
"""How training computes the loss of the output layer."""


def loss_head_kind(
    fields: Mapping[str, Any], precision: str, *, on_cuda: bool, compiles: bool
) -> LossHeadKind:
    """How the loss of the output layer is computed: the first of these that is possible.

    1. `logits`: all at once, if `has_fused_loss` is False.
    2. `compiled` on CUDA: blocks of one size, whose passes torch.compile fuses into two kernels.
    3. `blocks`, in eager mode: on a CPU, and if `runtime.compile` is off.

    liger-kernel 0.8 is not used because it waits for the GPU twice a micro-batch (`.item()` of the
    number of targets, `torch.equal` of the gradient and 1), nor `linear_cross_entropy` of torch
    2.14, which rounds the loss of a bf16 model to bf16 and ignores autocast. The part `head` of
    `tests.gpu` compares their speed with ours.

    Args:
        fields: LitGPT's `Config` as a dictionary.
    """
    if not has_fused_loss(fields, precision):
        return "logits"
    return "compiled" if on_cuda and compiles else "blocks"


def has_fused_loss(fields: Mapping[str, Any], precision: str) -> bool:
    """Whether the head of a model can compute the loss without holding all logits.

    Not if logits are processed further (`final_logit_softcapping`), nor in fp16, whose loss is
    scaled before the backward pass so that gradients do not vanish: the head computes them earlier.

    Args:
        fields: LitGPT's `Config` as a dictionary.
    """
    return fields.get("final_logit_softcapping") is None and precision != "16-mixed"


def rows_at_once(num_rows: int, vocabulary: int, *, on_cpu: bool) -> int:
    """Rows of logits in a block, when `num_rows` are split into blocks of one size."""
    size_bytes = CPU_BLOCK_BYTES if on_cpu else DEVICE_BLOCK_BYTES
    most = max(LEAST_ROWS, size_bytes // (4 * vocabulary))
    num_blocks = -(-num_rows // most)
    return -(-num_rows // num_blocks)


def activation_bytes(
    recipe: Recipe, architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    """Bytes at the peak of one micro-batch, besides the state."""
    c, tokens = architecture.fields, micro_batch_tokens(recipe)
    full, kept = _block_bytes(c, placement), _kept_bytes(c, placement)
    head = _head_bytes(recipe, c, placement) + _weight_copy_bytes(architecture, size, placement)
    if placement.activation_checkpointing == "off":
        again = 0
    else:
        again = tokens * full + _gathered_gradient_bytes(architecture, size, placement)
    return int(tokens * c["n_layer"] * kept + max(head, again))


def _head_bytes(recipe: Recipe, c: dict[str, Any], placement: Placement) -> int:
    """Logits in fp32, their gradient of the same size, and the gradient of the weight.

    In 16 bits each product is computed in 16 bits before it is accumulated in fp32.
    """
    tokens, vocabulary = micro_batch_tokens(recipe), c["padded_vocab_size"]
    if not has_fused_loss(c, placement.precision):
        return int(LOGITS_COPIES * tokens * vocabulary * BYTES_OF_FP32)
    rows = rows_at_once(tokens, vocabulary, on_cpu=placement.on_cpu)
    width = BYTES_OF_FP32 + BYTES_OF_HALF * is_half(placement.precision)
    return int((rows + c["n_embd"]) * vocabulary * width)


def _weight_copy_bytes(architecture: Architecture, size: StateSize, placement: Placement) -> int:
    """Autocast's 16-bit copies of the weights in products: all but the embedding.

    Autograd keeps them from a layer's forward to its backward pass; with activation checkpointing
    autocast keeps them until the end of the forward pass. FSDP2 gathers weights in 16 bits anyway.
    """
    if not is_mixed(placement.precision) or placement.strategy == "fsdp":
        return 0
    looked_up = 0 if architecture.tied else architecture.embedding_size
    return BYTES_OF_HALF * (size.num_parameters - looked_up)


def _gathered_gradient_bytes(
    architecture: Architecture, size: StateSize, placement: Placement
) -> int:
    """Full gradients of the head and of a block under FSDP2, the latter also in fp32."""
    if placement.strategy != "fsdp":
        return 0
    width = _widths(placement.precision)[0]
    _, block = outer_and_block(architecture, size.num_parameters)
    return width * architecture.embedding_size + (width + BYTES_OF_FP32) * block


def micro_batch_tokens(recipe: Recipe) -> int:
    """Tokens of one forward pass."""
    return recipe.micro_batch_size * recipe.sequence_length


def _widths(precision: str) -> tuple[int, int]:
    """Bytes of a number in matrix products, and in the residual stream and norms."""
    width = BYTES_OF_HALF if is_half(precision) else BYTES_OF_FP32
    return width, BYTES_OF_FP32 if is_mixed(precision) else width


def _block_bytes(c: dict[str, Any], placement: Placement) -> int:
    """Bytes per token of all that autograd stores of a block."""
    width, stream_width = _widths(placement.precision)
    return _stream_numbers(c) * stream_width + _inner_numbers(c) * width


def _kept_bytes(c: dict[str, Any], placement: Placement) -> int:
    """Bytes per token that are stored of a block until its backward pass."""
    mode = placement.activation_checkpointing
    if mode == "off":
        return _block_bytes(c, placement)
    width, stream_width = _widths(placement.precision)
    if placement.strategy == "fsdp":
        stream_width = width  # the embedding is gathered in 16 bits, so the stream is too
    attention = _attention_kept(c) * width if mode == "selective" else 0
    return int(c["n_embd"] * stream_width) + attention


def _stream_numbers(c: dict[str, Any]) -> int:
    """Numbers per token in a block's residual stream and norms, which autocast leaves in fp32."""
    streams = 1 if c["parallel_residual"] else 2
    norms = 1 if c["shared_attention_norm"] else 2
    kept_by_norm = 2 if c["norm_class_name"] == "RMSNorm" else 1
    return int(c["n_embd"] * (streams + norms * kept_by_norm))


def _inner_numbers(c: dict[str, Any]) -> int:
    """Numbers per token in attention and MLP.

    Attention stores queries, keys and values as it uses them, its output and, unless keys and
    values are copied for groups of heads, the joint projection that contains the values. An MLP
    with a gate stores two projections, the activation and the product; one without, half of that.
    """
    heads = c["n_head"] * c["head_size"]
    attention = 4 * heads if c["n_query_groups"] != c["n_head"] else 6 * heads
    mlp = (2 if c["mlp_class_name"] == "GptNeoxMLP" else 4) * c["intermediate_size"]
    return int(attention + mlp)


def _attention_kept(c: dict[str, Any]) -> int:
    """Numbers per token in the joint projection and in attention's output."""
    return int((2 * c["n_head"] + 2 * c["n_query_groups"]) * c["head_size"])
