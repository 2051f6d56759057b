"""The memory of one model under every way to train it, by the numbers of a plan."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import Recipe
from continuum.preflight.memory import MODES, MemoryEstimate, estimate_memory
from continuum.preflight.placement import Placement

STRATEGIES = ("single", "ddp", "fsdp")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


@dataclass(frozen=True)
class Workload:
    """What the devices of a table have to do."""

    devices: int
    """Of `ddp` and `fsdp`, over all nodes."""
    micro_batch_size: int
    sequence_length: int
    optimizer: str = "AdamW"
    accumulates: bool = True
    """Whether a step has several micro-batches."""
    accumulates_unsharded: bool = False
    on_cpu: bool = False

    def recipe(self, strategy: str) -> Recipe:
        """A recipe that asks for just this of each process."""
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
    """One way to train the model, and what a process of it takes."""

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
    """A row for each combination; none for the shapes whose parameters are not counted."""
    for strategy in strategies:
        recipe = workload.recipe(strategy)
        for precision in precisions:
            for mode in modes:
                placement = Placement(
                    workload.on_cpu, strategy, precision, mode, workload.accumulates_unsharded
                )
                estimate = estimate_memory(recipe, architecture, placement)
                if estimate is not None:
                    yield MemoryRow(placement, estimate)
