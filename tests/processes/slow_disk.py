"""Under torchrun: a training whose rank 0 writes for longer than a collective operation waits.

Arguments: a run folder, and a folder with a tokenizer.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention
from continuum.training.fabric import leave_group, make_fabric
from continuum.training.model import make_state
from continuum.training.resolved import resolve
from continuum.training.saving import Saver
from tests.support import saving_context
from tests.training.samples import FIELDS, companions, make_recipe

TIMEOUT_S, WRITING_S = 3.0, 8.0


class SlowSaver(Saver):
    """On a disk that takes its time."""

    def _write(self, snapshot: dict[str, Any]) -> None:
        time.sleep(WRITING_S)
        super()._write(snapshot)


def main(folder: Path, tokenizer_dir: Path) -> None:
    runtime = {"devices": 2, "micro_batch_size": 2, "strategy": "ddp"}
    recipe = make_recipe(runtime={**runtime, "collective_timeout": TIMEOUT_S})
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, FIELDS, resolved, seed=1)
    run = StageRun(folder)
    ctx = saving_context(run)
    saver = SlowSaver(fabric, ctx, recipe, companions(tokenizer_dir), Retention())
    for step in (1, 2):
        state.step = step
        saver.save(state)
    saver.wait_together()
    fabric.barrier()
    saved = [checkpoint.step for checkpoint in run.checkpoints()]
    print(json.dumps({"rank": fabric.global_rank, "saved": saved}) + "\n", end="", flush=True)
    leave_group(together=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
