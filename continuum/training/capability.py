"""What a device computes well in, by its compute capability, which torch's answers do not tell.

`torch.cuda.is_bf16_supported()` counts emulation: by it a T4 trains in bf16-mixed, without any unit
for it.
"""

from typing import Literal

from continuum.fields import Precision

Capability = tuple[int, int]
"""Of a CUDA device, or of an AMD one, as torch tells it: (8, 0) is an A100's."""
BF16 = (8, 0)
"""From Ampere on, tensor cores multiply in bf16 (CUDA C++ Programming Guide, compute capabilities).
"""
FP16_TENSOR_CORES = (7, 0)
"""From Volta on. Before it, most devices are slower in fp16 than in fp32."""

MatmulPrecision = Literal["highest", "high"]


def automatic_precision(capability: Capability | None, *, can_scale: bool) -> Precision:
    """What `precision: auto` becomes.

    Args:
        capability: The least of the devices'; None of a CPU.
        can_scale: Whether the loss can be scaled, as fp16 needs.
    """
    if capability is None:
        return "32-true"
    if capability >= BF16:
        return "bf16-mixed"
    return "16-mixed" if capability >= FP16_TENSOR_CORES and can_scale else "32-true"


def matmul_precision(precision: str, *, on_cuda: bool) -> MatmulPrecision:
    """What products of fp32 matrices are computed in: `highest` is fp32, `high` may be TF32.

    Where training is asked for in fp32 it is fp32. Beside products in bf16 or fp16, TF32's ten bits
    of mantissa are no loss.
    """
    return "high" if on_cuda and precision != "32-true" else "highest"
