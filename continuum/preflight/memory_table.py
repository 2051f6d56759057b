"""A plan's memory estimate for one model under every strategy, precision and checkpointing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import Recipe
from continuum.preflight.memory import MODES, MemoryEstimate, estimate_memory
from continuum.preflight.placement import Placement

STRATEGIES = ("single", "ddp", "fsdp")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


@dataclass(frozen=True)
class Workload:
    """What each device of a table computes."""

    devices: int
    """With `ddp` and `fsdp`, over all nodes."""
    micro_batch_size: int
    sequence_length: int
    optimizer: str = "AdamW"
    accumulates: bool = True
    """Whether a step has several micro-batches."""
    accumulates_unsharded: bool = False
    on_cpu: bool = False

    def recipe(self, strategy: str) -> Recipe:
        """A recipe with this workload for each process."""
        devices = 1 if strategy == "single" else self.devices
        runtime: dict[str, Any] = {"devices": devices, "micro_batch_size": self.micro_batch_size}
        at_once = devices * self.micro_batch_size
        return Recipe.model_validate(
            {
                "data": {"tokens": 1.0},
                "sequence_length": self.sequence_length,
                "global_batch_size": at_once * (2 if self.accumulates else 1),
                "max_steps": 1,
                "optimizer": {"name": self.optimizer, "lr": 1e-3},
                "schedule": {"kind": "constant", "warmup": {"steps": 0}, "min_lr": "10%"},
                "runtime": runtime,
            },
            strict=False,
        )


@dataclass(frozen=True)
class MemoryRow:
    """One way to train the model, and the memory of a process."""

    placement: Placement
    estimate: MemoryEstimate


def memory_table(
    architecture: Architecture,
    workload: Workload,
    *,
    strategies: Iterable[str] = STRATEGIES,
    precisions: Iterable[str] = PRECISIONS,
    modes: Iterable[str] = MODES,
) -> Iterator[MemoryRow]:
    """A row for each combination; none if the model's parameters cannot be counted."""
    for strategy, precision, mode in product(strategies, precisions, modes):
        placement = Placement(
            workload.on_cpu, strategy, precision, mode, workload.accumulates_unsharded
        )
        estimate = estimate_memory(workload.recipe(strategy), architecture, placement)
        if estimate is not None:
            yield MemoryRow(placement, estimate)
