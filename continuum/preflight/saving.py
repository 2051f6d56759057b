"""Whether the host can hold what a save puts there, on whatever device the model is trained.

A save copies the training state to the host, so that training goes on while it is written. With
`format: full` rank 0 does so for all; of an fsdp run it gathers the whole state, which is that copy
already. With `format: sharded` each process copies its own part, and those of a node share its
memory. From a GPU the copy is page-locked: one block of exactly its size, kept from the first save
on (`continuum.training.host_buffer`), which cannot be swapped out.
"""

from dataclasses import dataclass

from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import Recipe
from continuum.formatting import format_bytes
from continuum.preflight.memory import PROCESS_BYTES
from continuum.preflight.model_size import state_size
from continuum.preflight.placement import strategy_of


@dataclass(frozen=True)
class SavingNeed:
    """Bytes of host memory on the node that holds most, while a checkpoint is copied."""

    copied_bytes: int
    """The copies that are written, of all processes of the node."""
    is_pinned: bool
    """Whether they are page-locked, and stay."""
    gathered_bytes: int
    """The whole state, gathered on rank 0."""
    resident_bytes: int
    """Weights and moments that lie in host memory anyway, where the CPU trains."""
    processes_bytes: int
    """What the processes take besides."""
    way_out: str

    @property
    def sure_bytes(self) -> int:
        return self.copied_bytes + self.gathered_bytes + self.resident_bytes

    def problem(self, total_bytes: int, place: str) -> str | None:
        """Why no checkpoint can be saved in this memory; None when it may be."""
        if self.sure_bytes <= total_bytes:
            return None
        return f"{self._told(place, total_bytes)}: {self.way_out}"

    def doubt(self, available_bytes: int, place: str) -> str | None:
        """Why a save may not fit into what is available; None when it should."""
        if self.sure_bytes + self.processes_bytes <= available_bytes:
            return None
        return f"{self._told(place, available_bytes)}; should it fail, {self.way_out}"

    def _told(self, place: str, has_bytes: int) -> str:
        parts = {
            "gathered on rank 0": self.gathered_bytes,
            "page-locked for copies" if self.is_pinned else "copied to be written": (
                self.copied_bytes
            ),
            "weights and optimizer": self.resident_bytes,
        }
        listed = ", ".join(f"{format_bytes(size)} {what}" for what, size in parts.items() if size)
        return (
            f"a checkpoint takes about {format_bytes(self.sure_bytes)} of a node's host memory "
            f"({listed}), and {place} has {format_bytes(has_bytes)}"
        )


def saving_need(
    recipe: Recipe,
    architecture: Architecture | None,
    *,
    on_cpu: bool,
    strategy: str | None = None,
) -> SavingNeed | None:
    """What a save takes of rank 0's node; None for the shapes whose parameters are not counted.

    Args:
        strategy: `single`, `ddp` or `fsdp`, once `auto` is resolved.
    """
    size = state_size(recipe, architecture)
    if size is None:
        return None
    strategy = strategy or strategy_of(recipe)
    runtime, whole = recipe.runtime, size.checkpoint_bytes
    is_sharded = runtime.checkpoint.format == "sharded"
    part = whole // (runtime.devices * runtime.num_nodes)
    is_gathered = strategy == "fsdp" and not is_sharded
    resident = part if strategy == "fsdp" else whole
    copied = runtime.devices * part if is_sharded else whole
    return SavingNeed(
        copied_bytes=0 if is_gathered else copied,
        is_pinned=not on_cpu,
        gathered_bytes=whole if is_gathered else 0,
        resident_bytes=runtime.devices * resident if on_cpu else 0,
        processes_bytes=runtime.devices * PROCESS_BYTES,
        way_out=(
            "share the model among more nodes, or use precision bf16-true"
            if is_sharded
            else "have each process of an fsdp run save its part with runtime.checkpoint.format "
            "sharded, or use precision bf16-true"
        ),
    )
