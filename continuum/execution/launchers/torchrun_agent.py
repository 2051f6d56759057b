"""torchrun's agent on one node: it dies with its parent, interrupts no rank, and reports lost ones.

Slurm sends its signals to every process of a step, a terminal its SIGHUP to every process of a job.
The agent would die of most, and give its ranks only seconds after a SIGTERM or SIGHUP. Here all
request a stop, by the file that the ranks look for, unless they were ignored at the start. They are
blocked, which the ranks inherit, and waited for in a thread, so none arrives too early.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from continuum.cpus import num_processors
from continuum.execution.launchers import (
    CrashOutput,
    describe_exit_status,
    forget_other_launchers,
)
from continuum.execution.launchers.parent_death import PARENT_VARIABLE, die_with_parent
from continuum.execution.signals import block_signals, stop_signals
from continuum.execution.worker import append_event
from continuum.runs.events import Lost
from continuum.runs.folder import StageRun

POLL_S = 0.1
SHUTDOWN_TIMEOUT_S = 5
"""How long the other ranks may run after one has died; they cannot continue without it."""


def main() -> None:
    """Start the ranks of this node and wait for them.

    Arguments: the run folder, the file for events, the number of nodes, the processes on each, and
    `host:port` on the first node where the agents of several nodes meet. Each node runs this once,
    as a task of a Slurm step.
    """
    block_signals()
    die_with_parent()
    forget_other_launchers()
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # for the ranks
    run, events, num_nodes, num_devices, meeting = sys.argv[1:]
    threading.Thread(target=_forward_signals, args=(StageRun(Path(run)),), daemon=True).start()
    # The ranks of a node share its processors; torch alone would give each a single thread.
    threads = max(1, num_processors() // int(num_devices))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    _launch(Path(run), Path(events), int(num_nodes), int(num_devices), meeting)


def _launch(run: Path, events: Path, num_nodes: int, num_devices: int, meeting: str) -> None:
    """Run the ranks; report those that died without an outcome as lost."""
    from torch.distributed.elastic.multiprocessing.api import PContext
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=num_nodes,
        max_nodes=num_nodes,
        nproc_per_node=num_devices,
        run_id=run.name,
        rdzv_backend="static" if meeting else "c10d",
        rdzv_endpoint=meeting or "localhost:0",
        # Slurm's number of the node, so that rank 0 is where the records are written.
        rdzv_configs={"rank": int(os.environ["SLURM_NODEID"])} if meeting else {},
        max_restarts=0,
        monitor_interval=POLL_S,
        signals_to_handle="SIGQUIT",  # the others are forwarded, or stay ignored
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
    )
    # `shutdown_timeout` is for signals to the agent. After the death of a rank torch closes the
    # others with the default of this method, 30 s, of which a frozen rank uses all.
    PContext.close.__defaults__ = (None, SHUTDOWN_TIMEOUT_S)
    output = CrashOutput(StageRun(run).log_path)
    worker = ("-u", "-m", "continuum.execution.worker", str(run), str(events))
    try:
        elastic_launch(config, sys.executable)(*worker)
    except ChildFailedError as error:
        node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
        for rank, failure in error.failures.items():
            how = describe_exit_status(failure.exitcode) + output.likely_cause(failure.exitcode)
            message = f"rank {rank} on {node} {how}"
            append_event(events, Lost(rank, failure.exitcode, message))
        sys.exit(1)


def _forward_signals(run: StageRun) -> None:
    while True:
        signal.sigwait(stop_signals())
        run.stop_request.touch()


if __name__ == "__main__":
    main()
