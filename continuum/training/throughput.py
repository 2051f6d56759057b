"""Training speed: tokens per second, time left, and model FLOP/s utilization (MFU).

The denominator of MFU is the GPU's rate on its data sheet: dense figures, 16-bit products
accumulated in fp32. Where a data sheet prints a rate "with sparsity", this table has half of it.
Lightning's table (`lightning.fabric.utilities.throughput`) is used for devices that are not listed.
Listed are those that it does not know by the name CUDA reports (H200, GH200, B200, A30, plain A10),
or knows by a wrong figure: with sparsity (H100 NVL), without tensor cores (A40, RTX A6000,
GeForce), or that of another card (L40 and L40S as L4, A10G as A10).
"""

import math
import re
import time
from dataclasses import dataclass

import torch
from lightning.fabric.utilities.throughput import get_available_flops

from continuum.experiment.precision import is_half

TERA = 1e12


@dataclass(frozen=True)
class Peak:
    """Rates of a GPU in TFLOP/s."""

    half: float
    """bf16 and fp16, with tensor cores."""
    tf32: float
    fp32: float
    """Without tensor cores."""


PEAKS: dict[str, Peak] = {
    # NVIDIA GB200 NVL72 and GB300 NVL72 data sheets, of one GPU; rates with sparsity.
    r"\bGB[23]00\b": Peak(2500, 1250, 80),
    # NVIDIA HGX B200 and B300 data sheet, an eighth of eight GPUs; rates with sparsity.
    r"\bB[23]00\b": Peak(2250, 1125, 75),
    # NVIDIA H200 Tensor Core GPU data sheet: 1,671 (NVL) and 1,979 with sparsity.
    r"\bH200 NVL\b": Peak(835.5, 417.5, 60),
    r"\bG?H200\b": Peak(989.5, 494.5, 67),
    # NVIDIA H100 Tensor Core GPU data sheet: 1,671 (NVL), 1,513 (PCIe), 1,979 with sparsity.
    r"\bH100 NVL\b": Peak(835.5, 417.5, 60),
    r"\bH100 PCIe\b": Peak(756.5, 378, 51),
    r"\bH100\b": Peak(989.5, 494.5, 67),
    # NVIDIA A100 data sheet, both form factors; A800 has the same cores, and slower links.
    r"\bA[18]00\b": Peak(312, 156, 19.5),
    # NVIDIA A30, A40 and A10 data sheets; A10G: NVIDIA A10G data sheet of AWS's G5 instances.
    r"\bA30\b": Peak(165, 82, 10.3),
    r"\bA40\b": Peak(149.7, 74.8, 37.4),
    r"\bA10\b": Peak(125, 62.5, 31.2),
    r"\bA10G\b": Peak(70, 35, 31.5),
    # NVIDIA L4, L40 and L40S data sheets; L4's rates with sparsity.
    r"\bL4\b": Peak(121, 60, 30.3),
    r"\bL40\b": Peak(181, 90.5, 90.5),
    r"\bL40S\b": Peak(362, 183, 91.6),
    # NVIDIA RTX A6000 data sheet (309.7 with sparsity); NVIDIA Ada whitepaper of the RTX 6000.
    r"\bRTX A6000\b": Peak(154.8, 77.4, 38.7),
    r"\bRTX 6000 Ada\b": Peak(364.2, 182.1, 91.1),
    # Whitepapers of Ampere GA102, of Ada and of RTX Blackwell: fp16 and bf16 added up in fp32.
    r"\bRTX 3090$": Peak(71, 35.6, 35.6),
    r"\bRTX 4090$": Peak(165.2, 82.6, 82.6),
    r"\bRTX 5090$": Peak(209.5, 104.8, 104.8),
}
"""By a pattern of the name that CUDA reports; the first match counts."""
SLICE = re.compile(r"\bMIG\b")
"""In the name of a GPU partition, whose rate is not known."""


def listed_peak(name: str, precision: str, *, tf32: bool) -> float | None:
    """A device's FLOP/s in this table; None if it is not listed.

    Args:
        name: From `torch.cuda.get_device_name`.
        precision: The resolved precision of training.
        tf32: Whether fp32 matrix products use tensor cores.
    """
    peak = next((peak for pattern, peak in PEAKS.items() if re.search(pattern, name)), None)
    if peak is None or SLICE.search(name):
        return None
    rate = peak.half if is_half(precision) else peak.tf32 if tf32 else peak.fp32
    return rate * TERA


def peak_flops(name: str, precision: str) -> float:
    """Peak FLOP/s of this process's CUDA device, by its name; NaN if unknown."""
    tf32 = torch.get_float32_matmul_precision() != "highest"
    listed = listed_peak(name, precision, tf32=tf32)
    if listed is not None or SLICE.search(name):
        return math.nan if listed is None else listed
    dtype = _DTYPES.get(precision, torch.bfloat16)
    known = get_available_flops(torch.device("cuda", torch.cuda.current_device()), dtype)
    return math.nan if known is None else float(known)


def most_tokens_per_s(
    name: str | None, precision: str, world_size: int, flops_per_token: int | None
) -> float | None:
    """Tokens per second that these devices could train on at their peak rate; None if unknown.

    Args:
        name: Of the CUDA devices; None for a CPU.
    """
    if name is None or flops_per_token is None:
        return None
    most = world_size * peak_flops(name, precision) / flops_per_token
    return None if math.isnan(most) else most


_DTYPES = {"32-true": torch.float32, "16-mixed": torch.float16}


class Clock:
    """Tokens a second and time left, from the time spent in training steps alone."""

    def __init__(
        self,
        *,
        step: int,
        num_steps: int,
        tokens_per_step: int,
        most_tokens_per_s: float | None = None,
    ) -> None:
        """Start the clock.

        Args:
            most_tokens_per_s: What the devices could do at their peak rate; None if unknown.
        """
        self._num_steps = num_steps
        self._tokens_per_step = tokens_per_step
        self._most_tokens_per_s = most_tokens_per_s
        self._first_step = self._last_step = step
        self._started_at = self._last_at = time.perf_counter()
        self._paused_s = 0.0
        self._pause_began_at = 0.0

    def measure(self, step: int) -> dict[str, float]:
        """Speed since the last call, MFU if known, and seconds left at the average speed."""
        now = time.perf_counter() - self._paused_s
        tokens = (step - self._last_step) * self._tokens_per_step
        speed = tokens / max(now - self._last_at, 1e-9)
        average_s = (now - self._started_at) / max(1, step - self._first_step)
        self._last_step, self._last_at = step, now
        found = {
            "tokens_per_s": round(speed, 1),
            "eta_s": round(average_s * (self._num_steps - step), 1),
        }
        most = self._most_tokens_per_s
        return found if most is None else {**found, "mfu": round(speed / most, 4)}

    def paused(self) -> "Clock":
        """A context that does not count: evaluating and saving are not training."""
        return self

    def __enter__(self) -> None:
        self._pause_began_at = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._paused_s += time.perf_counter() - self._pause_began_at
