"""How many logits training holds at once: asked by the head, and by what estimates its memory."""

from collections.abc import Mapping
from typing import Any, Literal

LossHeadKind = Literal["blocks", "compiled", "logits"]
"""How training computes the loss of the output layer."""

CPU_BLOCK_BYTES = 1 << 26
"""Of fp32 logits at once. Measured with 50,304 tokens: 256 rows at once are 4 % faster than 128 and
as fast as 512."""
DEVICE_BLOCK_BYTES = 1 << 28
"""On a GPU, to keep it busy."""
LEAST_ROWS = 64
"""However large the vocabulary is: products of fewer rows are slow."""


def loss_head_kind(
    fields: Mapping[str, Any], precision: str, *, on_cuda: bool, compiles: bool
) -> LossHeadKind:
    """How the loss of the output layer is computed: the first of these that is possible.

    1. `logits`, all at once, where `has_fused_loss` says that nothing else is right.
    2. `compiled` on CUDA: blocks of one size, whose passes torch.compile fuses into two kernels.
    3. `blocks`, as torch carries them out: on a CPU, and where `runtime.compile` is off.

    Not chosen are liger-kernel 0.8, which waits for the GPU twice a micro-batch (`.item()` of the
    number of targets, `torch.equal` of the gradient and 1), and `linear_cross_entropy` of torch
    2.14, which rounds the loss of a bf16 model to bf16 and ignores autocast. The part `head` of
    `tests.gpu` times them beside ours.

    Args:
        fields: LitGPT's `Config` as a dictionary.
    """
    if not has_fused_loss(fields, precision):
        return "logits"
    return "compiled" if on_cuda and compiles else "blocks"


def has_fused_loss(fields: Mapping[str, Any], precision: str) -> bool:
    """Whether the head of a model gives the loss without holding all logits.

    Not where more is done to the logits (`final_logit_softcapping`), nor in fp16: its loss is
    scaled before the backward pass so that gradients do not vanish, and these are made before.

    Args:
        fields: LitGPT's `Config` as a dictionary.
    """
    return fields.get("final_logit_softcapping") is None and precision != "16-mixed"


def rows_at_once(num_rows: int, vocabulary: int, *, on_cpu: bool) -> int:
    """Rows of logits in a block, when `num_rows` are cut into blocks of one size."""
    size_bytes = CPU_BLOCK_BYTES if on_cpu else DEVICE_BLOCK_BYTES
    most = max(LEAST_ROWS, size_bytes // (4 * vocabulary))
    num_blocks = -(-num_rows // most)
    return -(-num_rows // num_blocks)
