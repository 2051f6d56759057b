"""The Slurm job around a run: its nodes, a meeting place on the first, and steps on them.

The run is a process of the job's batch script, on the first node. It asks Slurm for one task on
each node, with all resources that the job has there, however the job requested them.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from continuum.errors import PreflightError
from continuum.execution.launchers.parent_death import die_with_parent
from continuum.preflight.host import has_slurm_job

STEP_OPTIONS = (
    "--ntasks-per-node=1",
    "--kill-on-bad-exit=1",
    "--quit-on-interrupt",  # SIGINT ends the step at once, on all nodes
    "--overlap",  # run beside other steps, even inside one: `srun --pty bash`
    "--mem=0",  # all the job's memory, not a task's share
    "--cpu-bind=none",  # the ranks below the task share all of the job's processors
    "--mpi=none",
    "--export=ALL",  # `sbatch --export=NONE` would leave the ranks without a PATH
    "--input=none",
)
# Options that srun reads from the job's environment, meant for one rank a task: `--cpus-per-task`
# or `--gpus-per-task` would leave most of the node idle.
FOR_OTHER_STEPS = ("CPUS_PER_TASK", "TRES_PER_TASK", "EXPORT_ENV", "DISTRIBUTION", "HINT", "EXACT")
FOR_OTHER_STEPS_PREFIXES = ("NTASKS", "GPUS", "GPU_BIND", "CPU_BIND", "MEM_", "THREADS_PER_CORE")
KEPT = ("SLURM_GPUS_ON_NODE",)


def first_nodes(number: int) -> list[str]:
    """The names of the job's first nodes.

    Raises:
        PreflightError: there is no job, or it has fewer nodes.
    """
    if not has_slurm_job():
        raise PreflightError(
            f"runtime.num_nodes is {number}, which needs a Slurm job (SLURM_JOB_ID and srun); "
            "submit the run with sbatch, or set num_nodes to 1"
        )
    listed = subprocess.run(
        ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")],
        capture_output=True,
        text=True,
        check=False,
    )
    nodes = listed.stdout.split()
    if len(nodes) < number:
        raise PreflightError(
            f"runtime.num_nodes is {number}, but Slurm job {os.environ['SLURM_JOB_ID']} has "
            f"{len(nodes) or 'no'} node{'s' * (len(nodes) != 1)}; "
            f"submit it with --nodes={number}, or change num_nodes"
        )
    return nodes[:number]


def step(nodes: list[str], command: list[str]) -> list[str]:
    """The command line that runs `command` once on each node and ends with this process."""
    number = len(nodes)
    gpus = os.environ.get("SLURM_GPUS_ON_NODE")
    return [
        *(sys.executable, "-m", "continuum.execution.launchers.slurm"),
        *("srun", f"--nodes={number}", f"--ntasks={number}", f"--nodelist={','.join(nodes)}"),
        *STEP_OPTIONS,
        *([f"--gpus-per-node={gpus}"] if gpus else []),
        *command,
    ]


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables that would override the options of `step`."""
    return {name: value for name, value in environment.items() if not _is_for_other_steps(name)}


def _is_for_other_steps(name: str) -> bool:
    prefix, _, rest = name.partition("_")
    if prefix not in ("SLURM", "SRUN") or name in KEPT:
        return False
    return rest in FOR_OTHER_STEPS or rest.startswith(FOR_OTHER_STEPS_PREFIXES)


@contextmanager
def meeting_place(nodes: list[str]) -> Iterator[str]:
    """Reserve `host:port` on the first node (or MASTER_ADDR) while it is in use.

    The port is bound here without listening, so that no other process gets it, while torchrun can
    still listen on it: both sockets allow the address to be reused.

    Raises:
        PreflightError: the host's name does not resolve.
    """
    host = os.environ.get("MASTER_ADDR") or nodes[0]
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise PreflightError(
            f"cannot resolve {host}, where the processes of {len(nodes)} nodes meet ({error}); "
            f"set MASTER_ADDR to an address of {nodes[0]} that all nodes can reach"
        ) from None
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("", 0))
        yield f"{host}:{reserved.getsockname()[1]}"


def main() -> None:
    """Replace this process by the command in the arguments; SIGINT it when its parent dies.

    A kill would leave the processes running that `srun` started on other nodes.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Background jobs of a shell ignore it.
    die_with_parent(signal.SIGINT)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
