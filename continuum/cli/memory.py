"""`continuum memory`: estimate GPU memory by strategy, precision and checkpointing mode."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any

import typer

from continuum.cli.console import AsJson, Columns, Result, check_choice
from continuum.errors import UsageError
from continuum.experiment.architecture import Architecture, architecture, suggest_model
from continuum.formatting import format_bytes, plural
from continuum.preflight.memory import MODES
from continuum.preflight.memory_table import (
    PRECISIONS,
    STRATEGIES,
    MemoryRow,
    Workload,
    memory_table,
)

GB = 1e9


def memory(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Names of LitGPT configs, e.g. pythia-160m."),
    ],
    devices: Annotated[int, typer.Option(min=2, help="Number of GPUs for ddp and fsdp.")] = 8,
    micro_batch_size: Annotated[
        int, typer.Option(min=1, help="Sequences in a micro-batch on one GPU.")
    ] = 4,
    sequence_length: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens in a sequence; default 2,048 or the model's block size if smaller."
        ),
    ] = None,
    strategy: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(STRATEGIES)}. Repeatable.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(PRECISIONS)}. Repeatable.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="GB", help="Mark totals that do not fit into this much memory."
        ),
    ] = None,
    accumulate: Annotated[
        bool, typer.Option(help="Whether a step accumulates gradients over several micro-batches.")
    ] = True,
    accumulate_unsharded: Annotated[
        bool, typer.Option("--accumulate-unsharded", help="Like runtime.accumulate_unsharded.")
    ] = False,
    as_json: AsJson = False,
) -> "Memory":
    """Estimate the GPU memory to train a model, by strategy and precision."""
    strategies = _chosen("--strategy", strategy, STRATEGIES)
    precisions = _chosen("--precision", precision, PRECISIONS)
    tables = []
    for name in models:
        shape = _shape(name)
        length = sequence_length or min(2048, shape.block_size)
        if length > shape.block_size:
            raise UsageError(
                f"--sequence-length {length:,} is longer than the block_size "
                f"{shape.block_size:,} of {name}"
            )
        workload = Workload(
            devices,
            micro_batch_size,
            length,
            accumulates=accumulate,
            accumulates_unsharded=accumulate_unsharded,
        )
        rows = list(memory_table(shape, workload, strategies=strategies, precisions=precisions))
        if not rows:
            raise UsageError(f"{name}: cannot count the parameters of this architecture")
        tables.append(Table(name, workload, rows))
    return Memory(tables, gpu_memory)


@dataclass(frozen=True)
class Table:
    """The memory of one model."""

    model: str
    workload: Workload
    rows: list[MemoryRow]


@dataclass(frozen=True)
class Memory(Result):
    """The memory of each model; `gpu_memory` is in GB."""

    schema = "continuum.memory/1"
    tables: list[Table]
    gpu_memory: float | None

    def as_json(self) -> dict[str, Any]:
        return {"models": [_document(it.model, it.workload, it.rows) for it in self.tables]}

    def parts(self) -> Iterator[str | Columns]:
        for it in self.tables:
            yield (
                f"{it.model}: memory of one GPU, micro-batches of {it.workload.micro_batch_size}"
                f" x {it.workload.sequence_length:,} tokens; ddp and fsdp on "
                f"{plural(it.workload.devices, 'GPU')}"
            )
            headings = ("strategy", "precision", "state", *(f"total, {mode}" for mode in MODES))
            yield Columns(headings, list(_cells(it.rows, self.gpu_memory)))
            if self.gpu_memory is not None:
                yield f"* does not fit into {self.gpu_memory:g} GB"
            yield ""


def _shape(name: str) -> Architecture:
    """The architecture of a LitGPT model.

    Raises:
        UsageError: LitGPT has no such model.
    """
    try:
        return architecture(name)
    except ValueError as error:
        close = suggest_model(name)
        hint = f"; did you mean {close}?" if close else ""
        raise UsageError(f"{error}{hint}") from None


def _chosen(option: str, given: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    for value in given or ():
        check_choice(option, value, known)
    return tuple(value for value in known if not given or value in given)


def _cells(rows: list[MemoryRow], gpu_memory: float | None) -> Iterator[tuple[str, ...]]:
    """A row for each strategy and precision, with a total for each checkpointing mode."""

    def kind(row: MemoryRow) -> tuple[str, str]:
        return row.placement.strategy, row.placement.precision

    for (strategy, precision), group in groupby(rows, kind):
        modes = list(group)
        totals = (_total(row, gpu_memory) for row in modes)
        yield strategy, precision, format_bytes(modes[0].estimate.state_bytes), *totals


def _total(row: MemoryRow, gpu_memory: float | None) -> str:
    size = row.estimate.total_bytes
    is_too_much = gpu_memory is not None and size > gpu_memory * GB
    return f"{format_bytes(size)}{' *' if is_too_much else ''}"


def _document(name: str, workload: Workload, rows: list[MemoryRow]) -> dict[str, Any]:
    return {
        "model": name,
        "micro_batch_size": workload.micro_batch_size,
        "sequence_length": workload.sequence_length,
        "devices": workload.devices,
        "rows": [
            {
                "strategy": row.placement.strategy,
                "precision": row.placement.precision,
                "activation_checkpointing": row.placement.activation_checkpointing,
                "state_bytes": row.estimate.state_bytes,
                "activation_bytes": row.estimate.activation_bytes,
                "total_bytes": row.estimate.total_bytes,
            }
            for row in rows
        ],
    }
