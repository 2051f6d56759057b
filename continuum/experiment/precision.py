"""Resolves `precision: auto` by the device: one rule for the plan and for training.

Devices are identified by compute capability, because torch counts emulation as support: by
`torch.cuda.is_bf16_supported()` a T4 would train in bf16-mixed without hardware for it.
"""

from typing import Literal

from continuum.experiment.fields import Precision

Capability = tuple[int, int]
"""Of a CUDA device, as reported by torch and the driver: (8, 0) for an A100, (7, 5) for a T4."""
BF16: Capability = (8, 0)
"""From Ampere on, tensor cores multiply in bf16 (CUDA C++ Programming Guide, compute capabilities).
"""
FP16_TENSOR_CORES: Capability = (7, 0)
"""From Volta on. Before it, most devices are slower in fp16 than in fp32."""

MatmulPrecision = Literal["highest", "high"]


def automatic_precision(capability: Capability | None, *, can_scale: bool) -> Precision:
    """The precision of `auto`.

    Args:
        capability: The lowest of all devices; None for a CPU, where emulated bf16 is 25 times
            slower than fp32.
        can_scale: Whether the loss can be scaled, as fp16 requires.
    """
    if capability is None:
        return "32-true"
    if capability >= BF16:
        return "bf16-mixed"
    return "16-mixed" if capability >= FP16_TENSOR_CORES and can_scale else "32-true"


def is_half(precision: str) -> bool:
    """True if matrices are multiplied in 16 bits."""
    return precision != "32-true"


def is_mixed(precision: str) -> bool:
    """True if weights are stored in fp32 and multiplied as 16-bit copies."""
    return precision.endswith("-mixed")


def matmul_precision(precision: str, *, on_cuda: bool) -> MatmulPrecision:
    """The precision of fp32 matrix products: `highest` is fp32, `high` may be TF32.

    Training in fp32 uses fp32. Beside products in bf16 or fp16, the ten mantissa bits of TF32 lose
    nothing.
    """
    return "high" if on_cuda and is_half(precision) else "highest"
