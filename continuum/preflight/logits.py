"""How many logits training holds at once: asked by the head, and by what estimates its memory."""

from typing import Any

CPU_BLOCK_BYTES = 1 << 26
"""Of fp32 logits at once. Measured with 50,304 tokens: 256 rows at once are 4 % faster than 128 and
as fast as 512."""
DEVICE_BLOCK_BYTES = 1 << 28
"""On a GPU, to keep it busy."""
LEAST_ROWS = 64
"""However large the vocabulary is: products of fewer rows are slow."""


def has_fused_loss(fields: dict[str, Any], precision: str) -> bool:
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
