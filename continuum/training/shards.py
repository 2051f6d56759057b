"""Sharded checkpoints, written and read collectively by an fsdp run (torch's DCP)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from continuum.runs.artifacts import SHARDS_DIR
from continuum.runs.files import FileDigest, hash_file
from continuum.training.snapshot import HostBuffer, cloned, local_part
from continuum.training.state import TrainingState, by_index, by_name, unwrap, unwrap_optimizer
from continuum.training.weights import (
    MODEL,
    OPTIMIZER,
    PLAIN_FILE,
    below,
    has_tied_embeddings,
    nested,
    stored_tensors,
    with_head,
    without_head,
)

WRITERS_TIMEOUT = timedelta(hours=2)
"""How long a writing thread waits for the others: long, since disks may be slow."""


@dataclass(frozen=True)
class ShardSnapshot:
    """One process's part of a training state on the host, and the plain values of all processes."""

    tensors: dict[str, Any]
    values: dict[str, Any]


def snapshot_shards(state: TrainingState, buffer: HostBuffer | None = None) -> ShardSnapshot:
    """Copy this process's part to the host, so that training can continue; collective.

    Args:
        buffer: Memory for the copies, valid until its next use; without it each tensor gets
            memory of its own.
    """
    core = unwrap(state.model)
    named = by_name(unwrap_optimizer(state.optimizer), state.names)
    weights = core.state_dict()
    weights = without_head(weights) if has_tied_embeddings(core) else weights
    flat: dict[str, Any] = {MODEL + name: value for name, value in weights.items()}
    flat |= {OPTIMIZER + name: value for name, value in _leaves(named["state"])}
    tensors = _staged(flat, buffer)
    return ShardSnapshot(tensors, {**state.plain_values(), "param_groups": named["param_groups"]})


def _staged(flat: dict[str, Any], buffer: HostBuffer | None) -> dict[str, Any]:
    """The same values with a host copy of this process's part of each tensor."""
    parts = {name: local_part(v) for name, v in flat.items() if isinstance(v, torch.Tensor)}
    if buffer is not None:
        buffer.begin(parts.values())
    copy = cloned if buffer is None else buffer.copy
    staged = dict(flat)
    for name, part in parts.items():
        staged[name] = copy(part)
        if isinstance(flat[name], DTensor):
            sharded = flat[name].detach()
            sharded._local_tensor = staged[name]  # as torch's stagers do
            staged[name] = sharded
    if any(part.device.type == "cuda" for part in parts.values()):
        torch.cuda.synchronize()  # copies to the host are asynchronous
    return staged


def writers_group() -> dist.ProcessGroup:
    """Create a CPU process group for the writing threads; collective.

    With a group of their own, their collectives do not interleave with those of training.
    """
    group = dist.new_group(backend="gloo", timeout=WRITERS_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup), "every process is a member"
    return group


def write_shards(
    folder: Path, snapshot: ShardSnapshot, group: dist.ProcessGroup
) -> list[FileDigest]:
    """Write this process's part to `folder`; returns when all processes have written theirs.

    Each process hashes its own files, since one alone would have to read the full state.

    Returns:
        The digests of all processes' files, in every process.
    """
    shards = folder / SHARDS_DIR
    save(snapshot.tensors, checkpoint_id=shards, process_group=group)
    mine = [hash_file(path, folder) for path in shards.glob(f"__{dist.get_rank(group)}_*")]
    digests: list[list[FileDigest]] = [[]] * dist.get_world_size(group)
    dist.all_gather_object(digests, mine, group=group)
    return [digest for of_one in digests for digest in of_one]


def load_shards(folder: Path, state: TrainingState, *, rank: int) -> None:
    """Load the state in `folder`, whatever number of processes wrote it; collective."""
    core = unwrap(state.model)
    parameters = dict(core.named_parameters())
    flat: dict[str, Any] = {}
    for name, (size, dtype) in stored_tensors(folder).items():
        parameter = parameters.get(name.removeprefix(MODEL).removeprefix(OPTIMIZER))
        if parameter is None:
            parameter = parameters.get(name.removeprefix(OPTIMIZER).rpartition("/")[0])
        is_alike = parameter is not None and parameter.shape == size
        # Tensors of a parameter's shape are sharded like it; counters are not sharded.
        flat[name] = (
            torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
            if parameter is not None and is_alike
            else torch.empty(size, dtype=dtype)
        )
    load(flat, checkpoint_id=folder / SHARDS_DIR)
    plain = torch.load(folder / PLAIN_FILE, weights_only=True)
    core.load_state_dict(with_head(below(flat, MODEL)))
    optimizer = unwrap_optimizer(state.optimizer)
    named = nested(flat, plain["param_groups"])
    optimizer.load_state_dict(by_index(named, optimizer, state.names))
    state.restore_plain_values(plain, rank=rank)


def _leaves(state: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for parameter, values in state.items():
        for key, value in values.items():
            yield f"{parameter}/{key}", value
