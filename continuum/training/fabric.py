"""Runtime to Fabric: which device, which precision, compiled or not.

`auto` follows the device, because LitGPT's default (`bf16-true`) is 25 times slower than fp32 on
a CPU without bf16 units. What it became is recorded with the run, and a recovery keeps it.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning import Fabric

from continuum.errors import PreflightError
from continuum.recipe import Recipe


@dataclass(frozen=True)
class Resolved:
    """What the `auto` fields became, and on what."""

    accelerator: str
    device: str
    precision: str
    compile: bool
    num_threads: int


def resolve(recipe: Recipe, kept: dict[str, Any]) -> Resolved:
    """Decide the `auto` fields; `kept` is what an earlier attempt of the run decided.

    Raises:
        PreflightError: CUDA is asked for, or needed by the precision, and there is none.
    """
    accelerator = recipe.runtime.accelerator
    has_cuda = torch.cuda.is_available()
    if accelerator == "cuda" and not has_cuda:
        raise PreflightError(
            "runtime.accelerator is cuda, but torch finds no CUDA device here; "
            "use auto or cpu, or check the driver with nvidia-smi"
        )
    on_cuda = has_cuda and accelerator != "cpu"
    precision = recipe.precision
    if precision == "auto":
        precision = kept.get("precision") or _precision_of(on_cuda)
    if precision == "16-mixed" and not on_cuda:
        # Fabric would take bf16-mixed instead, and the record would be false.
        raise PreflightError(
            "precision 16-mixed needs a CUDA device, and this stage runs on the CPU; "
            "use bf16-mixed or 32-true"
        )
    return Resolved(
        accelerator="cuda" if on_cuda else "cpu",
        device=torch.cuda.get_device_name() if on_cuda else "cpu",
        precision=precision,
        compile={"on": True, "off": False}.get(recipe.runtime.compile, on_cuda),
        num_threads=torch.get_num_threads(),
    )


def _precision_of(on_cuda: bool) -> Any:
    if not on_cuda:
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def make_fabric(resolved: Resolved) -> Fabric:
    """A launched single-device Fabric."""
    fabric = Fabric(
        accelerator=resolved.accelerator,
        devices=1,
        precision=resolved.precision,  # type: ignore[arg-type]  # a literal of the same names
    )
    fabric.launch()
    return fabric


def as_record(resolved: Resolved) -> dict[str, Any]:
    """For `resolved.json`."""
    return asdict(resolved)
