"""What a step finds on each node of a job; run by its batch script."""

import json
import os
import subprocess
import sys

from continuum.execution.launchers.slurm import first_nodes, step, step_environment

TASK = """
import json, os
names = {"node": "SLURMD_NODENAME", "gpus": "CUDA_VISIBLE_DEVICES"}
seen = {key: os.environ[name] for key, name in names.items()}
numbers = {"rank": "SLURM_NODEID", "processors": "SLURM_CPUS_ON_NODE"}
seen |= {key: int(os.environ[name]) for key, name in numbers.items()}
print(json.dumps(seen), flush=True)
"""


def main() -> None:
    command = step(first_nodes(2), [sys.executable, "-c", TASK])
    subprocess.run(command, env=step_environment(os.environ), check=True)
    print(json.dumps("done"))


if __name__ == "__main__":
    main()
