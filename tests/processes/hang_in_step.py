"""Under torchrun: a training of two processes, one of which sleeps in the middle of a step.

Argument: how long a collective operation waits.
"""

import json
import os
import sys
import time
from typing import Any

import torch

from continuum.errors import StageFailedError
from continuum.training.fabric import make_fabric
from continuum.training.model import make_state
from continuum.training.rank_sync import named_device_faults
from continuum.training.resolved import resolve
from tests.training.samples import FIELDS, make_recipe


def main(timeout: str) -> None:
    runtime: dict[str, Any] = {"devices": 2, "micro_batch_size": 2, "collective_timeout": timeout}
    recipe = make_recipe(runtime={**runtime, "strategy": "ddp"})
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, FIELDS, resolved, seed=1)
    try:
        with named_device_faults(fabric, state):
            for _ in range(3):
                if state.step == 1 and fabric.global_rank == 1:
                    time.sleep(3 * recipe.runtime.collective_timeout)
                fabric.backward(state.model(torch.randint(0, 9, (2, 8))).square().mean())
                state.step += 1
    except StageFailedError as error:
        print(
            json.dumps({"rank": fabric.global_rank, "told": str(error)}) + "\n", end="", flush=True
        )
    except RuntimeError as error:
        print(
            json.dumps({"rank": fabric.global_rank, "lost": str(error)}) + "\n", end="", flush=True
        )

    os._exit(0)  # the broken group would abort the interpreter


if __name__ == "__main__":
    main(sys.argv[1])
