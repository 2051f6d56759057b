"""Sharded checkpoints, written and read by all processes of an fsdp run together (torch's DCP)."""

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

from continuum.runs.files import FileDigest, hash_file
from continuum.training.host_buffer import HostBuffer
from continuum.training.state import (
    TrainingState,
    by_index,
    by_name,
    cloned,
    local_part,
    unwrap,
    unwrap_optimizer,
)
from continuum.training.tied import has_tied_embeddings, without_head
from continuum.training.weights import (
    MODEL,
    OPTIMIZER,
    PLAIN_FILE,
    SHARDS_DIR,
    below,
    nested,
    stored_tensors,
    with_head,
)

WRITERS_TIMEOUT = timedelta(hours=2)
"""How long one writing thread waits for the others: a slow disk is no fault of the network."""


@dataclass(frozen=True)
class ShardSnapshot:
    """One process's part of a training state, on the host, and the plain values of all."""

    tensors: dict[str, Any]
    values: dict[str, Any]


def snapshot_shards(state: TrainingState, buffer: HostBuffer | None = None) -> ShardSnapshot:
    """This process's part, copied to the host: training may go on. Collective, for the RNG.

    Args:
        buffer: Holds the copies until it is used again; without one each tensor gets memory of
            its own.
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
    """The same values with this process's part of each tensor on the host."""
    parts = {name: local_part(v) for name, v in flat.items() if isinstance(v, torch.Tensor)}
    if buffer is not None:
        buffer.begin(parts.values())
    copy = cloned if buffer is None else buffer.copy
    staged = dict(flat)
    for name, part in parts.items():
        staged[name] = copy(part)
        if isinstance(flat[name], DTensor):
            sharded = flat[name].detach()
            sharded._local_tensor = staged[name]  # as torch's own stagers do
            staged[name] = sharded
    if any(part.device.type == "cuda" for part in parts.values()):
        torch.cuda.synchronize()  # The copies to the host were only begun.
    return staged


def writers_group() -> dist.ProcessGroup:
    """A group of all processes on the CPU, for their writing threads alone; collective.

    In threads of their own they meet here while their main threads meet in training, in whatever
    order.
    """
    group = dist.new_group(backend="gloo", timeout=WRITERS_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup), "every process is in it"
    return group


def write_shards(
    folder: Path, snapshot: ShardSnapshot, group: dist.ProcessGroup
) -> list[FileDigest]:
    """Write every process's part below `folder`; returns when all have.

    Each process hashes the files that it wrote: one alone would read the whole state again.

    Returns:
        The digests of all processes' files, alike in each.
    """
    shards = folder / SHARDS_DIR
    save(snapshot.tensors, checkpoint_id=shards, process_group=group)
    mine = [hash_file(path, folder) for path in shards.glob(f"__{dist.get_rank(group)}_*")]
    digests: list[list[FileDigest]] = [[]] * dist.get_world_size(group)
    dist.all_gather_object(digests, mine, group=group)
    return [digest for of_one in digests for digest in of_one]


def load_shards(folder: Path, state: TrainingState, *, rank: int) -> None:
    """Become the state in `folder`, whatever number of processes wrote it; collective."""
    core = unwrap(state.model)
    parameters = dict(core.named_parameters())
    flat: dict[str, Any] = {}
    for name, (size, dtype) in stored_tensors(folder).items():
        parameter = parameters.get(name.removeprefix(MODEL).removeprefix(OPTIMIZER))
        if parameter is None:
            parameter = parameters.get(name.removeprefix(OPTIMIZER).rpartition("/")[0])
        is_alike = parameter is not None and parameter.shape == size
        # What has a parameter's shape is sharded as the parameter is; counters are not sharded.
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
