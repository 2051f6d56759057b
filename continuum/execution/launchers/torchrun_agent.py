"""torchrun on one node: dies with what started it, stops no rank half-way, and names those it lost.

Slurm sends its signals to every process of a step. torchrun would die of a SIGUSR1, and give its
ranks seconds after a SIGTERM; here both are requests to stop, put where the ranks look for one.
They are blocked, which the ranks inherit, and waited for in a thread: none comes too early.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from continuum.cpus import num_processors
from continuum.execution.launchers import describe_exit
from continuum.execution.launchers.parent_death import PARENT_VARIABLE, die_with_parent
from continuum.execution.signals import SIGNALS, ignore_signals
from continuum.execution.worker import append_event
from continuum.runs.events import Lost
from continuum.runs.folder import StageRun

POLL_S = 0.1
SHUTDOWN_TIMEOUT_S = 5
"""What torchrun gives the other ranks after one has died; they cannot go on without it."""


def main() -> None:
    """Arguments: the run folder, the file for events, nodes, processes on each, the meeting place.

    Of several nodes, each runs this once, as a task of a Slurm step; they meet at an address of the
    first, `host:port`.
    """
    ignore_signals()
    die_with_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # the ranks'
    run, events, num_nodes, num_devices, meeting = sys.argv[1:]
    passing_on = threading.Thread(target=_pass_on_signals, args=(StageRun(Path(run)),), daemon=True)
    passing_on.start()
    # The ranks of a node share its processors; torchrun alone would give each a single thread.
    threads = max(1, num_processors() // int(num_devices))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    together = ["--standalone"]
    if int(num_nodes) > 1:
        host, _, port = meeting.rpartition(":")
        together = [f"--nnodes={num_nodes}", f"--master-addr={host}", f"--master-port={port}"]
        # Slurm's number of the node, so that rank 0 is where the records are written.
        together.append(f"--node-rank={os.environ['SLURM_NODEID']}")
    arguments = [
        *together,
        f"--nproc-per-node={num_devices}",
        "--max-restarts=0",
        f"--monitor-interval={POLL_S}",
        f"--shutdown-timeout={SHUTDOWN_TIMEOUT_S}",
        "--signals-to-handle=SIGHUP,SIGQUIT",
    ]
    _torchrun([*arguments, "-m", "continuum.execution.worker", run, events], Path(events))


def _torchrun(arguments: list[str], events: Path) -> None:
    """Run it to its end; ranks that died without a word of their own are reported as lost."""
    from torch.distributed.elastic.multiprocessing.api import PContext
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    # After a rank's death torchrun gives the others its default of 30 s, whatever
    # --shutdown-timeout (or `LaunchConfig`) says. They cannot go on, and a frozen one uses it all.
    PContext.close.__defaults__ = (None, SHUTDOWN_TIMEOUT_S)
    try:
        torchrun(arguments)
    except ChildFailedError as error:
        node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
        for rank, failure in error.failures.items():
            message = f"rank {rank} on {node} {describe_exit(failure.exitcode)}"
            append_event(events, Lost(rank, failure.exitcode, message))
        sys.exit(1)


def _pass_on_signals(run: StageRun) -> None:
    while True:
        signal.sigwait(SIGNALS)
        run.stop_request.touch()


if __name__ == "__main__":
    main()
