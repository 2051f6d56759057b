"""Under torchrun: steps of a small model as a training stage takes them, and what it tells others.

Arguments: a folder of token blocks, `ddp` or `fsdp`, a precision, how many micro-batches make a
step, and `unsharded` to accumulate so. Prints a JSON line a process.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from continuum.training.data import Blocks, Share, TrainingData
from continuum.training.fabric import leave_group, make_fabric
from continuum.training.loop import Task, accumulate_gradients, clip_gradients, take_step
from continuum.training.model import make_state
from continuum.training.order import SampleOrder
from continuum.training.rank_sync import check_ranks_agree
from continuum.training.resolved import resolve
from continuum.training.state import unwrap
from tests.training.loops import GLOBAL_BATCH, make_task
from tests.training.samples import FIELDS, LENGTH, VOCABULARY, make_recipe

STEPS = 4


class Collectives(TorchDispatchMode):
    """Notes the collectives below it, and the type of what they carry."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            dtypes = {str(it.dtype).removeprefix("torch.") for it in _tensors(args)}
            self.found.append(f"{func._opname.strip('_')} {'/'.join(sorted(dtypes))}")
        return func(*args, **(kwargs or {}))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


class WatchedData(TrainingData):
    """Notes before each micro-batch how many bytes of gradients this process's shards have."""

    model: nn.Module
    held_bytes: list[int]

    def micro_batches(self, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in super().micro_batches(step):
            self.held_bytes.append(gradient_bytes(self.model))
            yield batch


def gradients(model: nn.Module) -> list[torch.Tensor]:
    """What this process holds of them."""
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return [it.to_local() if isinstance(it, DTensor) else it for it in found]


def gradient_bytes(model: nn.Module) -> int:
    return sum(grad.numel() * grad.element_size() for grad in gradients(model))


def task_for(rank: int, world_size: int, micro_batches: int, folder: Path) -> tuple[Task, Any]:
    """The task of `tests.training.loops`, shared by processes."""
    blocks = Blocks(folder, LENGTH, VOCABULARY)
    share = Share(rank, world_size, GLOBAL_BATCH // world_size // micro_batches)
    order = SampleOrder(1, (len(blocks),), (1.0,), ("d" * 64,))
    data = WatchedData([blocks], order, GLOBAL_BATCH, share)
    data.held_bytes = []
    return replace(make_task(blocks), data=data), data


def main(
    folder: Path, strategy: str, precision: str, micro_batches: int, *, unsharded: bool
) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    recipe = make_recipe(
        precision=precision,
        runtime={
            "accelerator": "cpu",
            "devices": world_size,
            "micro_batch_size": GLOBAL_BATCH // world_size // micro_batches,
            "strategy": strategy,
            "accumulate_unsharded": unsharded,
        },
    )
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, FIELDS, resolved, seed=3)
    core: Any = unwrap(state.model)
    seen: dict[str, str] = {}

    def look(module: Any, inputs: tuple[Any, ...]) -> None:
        seen["weight"], seen["rope"] = str(module.qkv.weight.dtype), str(inputs[1].dtype)

    core.transformer.h[0].attn.register_forward_pre_hook(look)
    losses = []
    task, data = task_for(fabric.global_rank, world_size, micro_batches, folder)
    data.model = core
    task = replace(task, reduces_once=strategy != "fsdp" or resolved.accumulate_unsharded)
    for step in range(STEPS):
        with Collectives() as collectives:
            loss = accumulate_gradients(fabric, state.model, task, step)
        held = gradient_bytes(core)
        storages = len({grad.untyped_storage().data_ptr() for grad in gradients(core)})
        mean: Any = fabric.all_reduce(loss, reduce_op="mean")
        losses.append(float(mean))
        take_step(state, clip_gradients(fabric, state, task))
        if step == 0:
            check_ranks_agree(fabric, state.model)
    told = {
        "rank": fabric.global_rank,
        "losses": losses,
        "collectives": collectives.found,  # of the last step's passes
        "held_bytes": data.held_bytes[-micro_batches:],
        "gradient_bytes": held,
        "gradient_storages": storages,
        "parameters": len(list(core.parameters())),
        **seen,
    }
    print(json.dumps(told) + "\n", end="", flush=True)
    leave_group(together=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, strategy, precision, number, *flags = sys.argv[1:]
    main(Path(place), strategy, precision, int(number), unsharded="unsharded" in flags)
