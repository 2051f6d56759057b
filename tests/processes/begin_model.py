"""Under torchrun: set a model up as a training stage does, and say what it is and what it took.

Arguments: a LitGPT config name, a precision, and a folder of weights to load instead of drawing.
"""

import hashlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from continuum.experiment.architecture import architecture
from continuum.training.fabric import leave_group, make_fabric
from continuum.training.model import make_state
from continuum.training.resolved import resolve
from continuum.training.state import is_sharded, load_model
from continuum.training.weights import load_weights
from tests.training.samples import make_recipe

SEED = 5


def digest(weights: dict[str, Any]) -> str:
    """One hash of all names and bytes."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode())
        found.update(weights[name].contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(name: str, precision: str, weights: Path | None) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    shape = architecture(name)
    recipe = make_recipe(
        precision=precision,
        runtime={"devices": world_size, "micro_batch_size": 1, "strategy": "fsdp"},
    )
    resolved = resolve(recipe, {}, shape)
    fabric = make_fabric(resolved, recipe.runtime)
    before = peak_bytes()
    seed = SEED if weights is None else None
    state = make_state(fabric, recipe, shape.fields, resolved, seed=seed)
    if weights is not None:
        load_model(state.model, load_weights(weights))
    taken = peak_bytes() - before
    gathered = state.gathered_tensors() if is_sharded(state.model) else state.snapshot()
    told = {"rank": fabric.global_rank, "taken_bytes": taken, "digest": digest(gathered["model"])}
    print(json.dumps(told) + "\n", end="", flush=True)
    leave_group(together=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else None)
