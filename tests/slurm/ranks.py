"""One optimizer step by two ranks on two nodes, with each strategy and with none.

Run by a batch script, it starts itself on both nodes, through torchrun, as a launcher does.
"""

import json
import os
import subprocess
import sys
from typing import Any

STRATEGIES = ("ddp", "fsdp", "none")


def main() -> None:
    if "RANK" in os.environ:
        for strategy in STRATEGIES:
            _take_step(strategy)
        from continuum.training.fabric import leave_group

        leave_group(together=True)  # else gloo aborts a rank at its exit now and then
        return
    from continuum.execution.launchers.slurm import (
        first_nodes,
        meeting_place,
        step,
        step_environment,
    )

    nodes = first_nodes(2)
    with meeting_place(nodes) as meeting:
        host, _, port = meeting.rpartition(":")
        torchrun = (
            f"exec {sys.executable} -m torch.distributed.run --nnodes=2 --nproc-per-node=1 "
            f"--node-rank=$SLURM_NODEID --master-addr={host} --master-port={port} "
            "-m tests.slurm.ranks"
        )
        command = step(nodes, ["bash", "-c", torchrun])
        subprocess.run(command, env=step_environment(os.environ), check=True)


def _take_step(strategy: str) -> None:
    import torch

    from continuum.experiment.runtime import Runtime
    from continuum.training.fabric import make_fabric
    from continuum.training.model import make_state
    from continuum.training.rank_sync import check_ranks_agree
    from continuum.training.resolved import Resolved
    from tests.training.samples import FIELDS, LENGTH, VOCABULARY, make_recipe

    resolved = Resolved(
        accelerator="cpu",
        device="cpu",
        precision="32-true",
        compile=False,
        num_threads=1,
        strategy="ddp" if strategy == "none" else strategy,
        world_size=2,
        micro_batch_size=1,
        deterministic=False,
    )
    fabric = make_fabric(resolved, Runtime(num_nodes=2))
    state = make_state(fabric, make_recipe(), FIELDS, resolved, seed=3)
    torch.manual_seed(fabric.global_rank)
    tokens = torch.randint(0, VOCABULARY, (1, LENGTH))
    # Without the exchange of gradients each rank trains by itself.
    with fabric.no_backward_sync(state.model, enabled=strategy == "none"):  # type: ignore[arg-type]
        loss = state.model(tokens).square().mean()
        fabric.backward(loss)
    state.optimizer.step()
    told = {"strategy": strategy, "rank": fabric.global_rank, "local_loss": loss.item()}
    try:
        check_ranks_agree(fabric, state.model)
    except RuntimeError as error:
        told["error"] = str(error)
    told["checksum"] = sum(_whole(p).double().abs().sum().item() for p in state.model.parameters())
    sys.stdout.write(json.dumps(told) + "\n")


def _whole(parameter: Any) -> Any:
    """All of a parameter that is sharded over the ranks."""
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter


if __name__ == "__main__":
    main()
