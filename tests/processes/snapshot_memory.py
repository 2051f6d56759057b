"""Under torchrun: what a snapshot of the whole state takes of each process's memory.

Arguments: a LitGPT config name and a strategy.
"""

import json
import sys
from pathlib import Path

import torch

from continuum.experiment.architecture import architecture
from continuum.training.fabric import leave_group, make_fabric
from continuum.training.model import make_state
from continuum.training.resolved import resolve
from continuum.training.snapshot import tensors_in
from tests.processes.begin_model import digest
from tests.training.samples import make_recipe

STATUS = Path("/proc/self/status")


def bytes_of(entry: str) -> int:
    """`VmRSS`, what is resident now, or `VmHWM`, the most that was."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:"))


def main(name: str, strategy: str) -> None:
    fields = architecture(name).fields
    recipe = make_recipe(runtime={"devices": 2, "micro_batch_size": 2, "strategy": strategy})
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, fields, resolved, seed=1)
    fabric.backward(state.model(torch.randint(0, 100, (2, 8))).square().mean())
    state.optimizer.step()
    state.optimizer.zero_grad()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # begins VmHWM anew
    before = bytes_of("VmRSS")
    snapshot = state.snapshot(is_writer=fabric.is_global_zero)
    taken = bytes_of("VmHWM") - before
    was = digest(snapshot["model"])
    with torch.no_grad():  # as training would
        for parameter in state.model.parameters():
            parameter.zero_()
        for tensor in tensors_in(list(state.optimizer.state.values())):
            tensor.zero_()
    told = {
        "rank": fabric.global_rank,
        "taken_bytes": taken,
        "state_bytes": sum(t.nbytes for t in tensors_in(snapshot)),
        "is_as_before": digest(snapshot["model"]) == was
        and all(bool(t.any()) for t in tensors_in(snapshot["optimizer"])),
    }
    print(json.dumps(told) + "\n", end="", flush=True)
    leave_group(together=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2])
