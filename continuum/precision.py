"""The precision that `auto` becomes, by the device: one rule for the plan and for training.

A device is known here by its compute capability, since libraries that are asked for bfloat16 count
its emulation too (`torch.cuda.is_bf16_supported()` is true of a T4, which has no such units).
"""

from typing import Literal, TypeAlias

Capability: TypeAlias = tuple[int, int]
"""A CUDA device's compute capability: (8, 0) is an A100, (7, 5) a T4, (9, 0) an H100."""
Resolved: TypeAlias = Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"]

BF16_CAPABILITY: Capability = (8, 0)
"""The first with tensor cores for bfloat16: Ampere (CUDA C++ Programming Guide, "Compute
Capabilities", table of data types of tensor cores)."""
FP16_CAPABILITY: Capability = (7, 0)
"""The first with tensor cores for float16: Volta (same table)."""
CPU_PRECISION: Resolved = "32-true"
"""bf16 is 25 times slower than fp32 on a CPU without units for it."""


def cuda_precision(capability: Capability | None, *, can_scale: bool = True) -> Resolved:
    """The precision of `auto` on a CUDA device.

    Args:
        capability: None while the device is not known: one of the last years is assumed.
        can_scale: Whether the loss can be scaled, which float16 needs and FSDP2 and fused
            optimizers cannot do.
    """
    if capability is None or capability >= BF16_CAPABILITY:
        return "bf16-mixed"
    return "16-mixed" if can_scale and capability >= FP16_CAPABILITY else "32-true"


def is_half(precision: str) -> bool:
    """True if matrices are multiplied in 16 bits."""
    return precision != "32-true"


def is_mixed(precision: str) -> bool:
    """True if weights are stored in fp32 and multiplied as 16-bit copies."""
    return precision.endswith("-mixed")
