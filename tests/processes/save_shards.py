"""Under torchrun: save a sharded state in the background, and change it at once.

Arguments: a run folder, a folder with a tokenizer, and a LitGPT config name.
"""

import json
import sys
import time
from pathlib import Path

import torch

from continuum.experiment.architecture import architecture
from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention
from continuum.training.fabric import leave_group, make_fabric
from continuum.training.model import make_state
from continuum.training.resolved import resolve
from continuum.training.saving import Saver
from continuum.training.weights import read_sharded
from tests.processes.begin_model import digest
from tests.support import saving_context
from tests.training.samples import companions, make_recipe


def main(folder: Path, tokenizer_dir: Path, name: str) -> None:
    fields = architecture(name).fields
    recipe = make_recipe(
        runtime={
            "devices": 2, "micro_batch_size": 2, "strategy": "fsdp",
            "checkpoint": {"format": "sharded"},
        }
    )  # fmt: skip
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, fields, resolved, seed=1)
    tokens = torch.randint(0, 100, (2, 8))
    fabric.backward(state.model(tokens).square().mean())
    state.optimizer.step()
    state.step = 1
    before = digest(state.gathered_tensors()["model"])

    run = StageRun(folder)
    ctx = saving_context(run)
    beside = companions(tokenizer_dir, fields)
    saver = Saver(fabric, ctx, recipe, beside, Retention())
    fabric.barrier()
    begun_at = time.perf_counter()
    saver.save(state)
    stalled_s = time.perf_counter() - begun_at
    is_published = bool(run.checkpoints())
    # As training would, and with a collective of the main thread meanwhile.
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.zero_()
    fabric.barrier()
    saver.wait()
    fabric.barrier()
    written_s = time.perf_counter() - begun_at
    if fabric.is_global_zero:
        (saved,) = run.checkpoints()
        is_same = digest(read_sharded(saved.path)["model"]) == before
        told = {
            "stalled_s": stalled_s, "written_s": written_s,
            "is_published_at_once": is_published, "is_same": is_same,
        }  # fmt: skip
        print(json.dumps(told) + "\n", end="", flush=True)
    leave_group(together=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
