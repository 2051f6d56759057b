"""Several processes a stage, through torchrun: on this machine, or on the nodes of a Slurm job.

The ranks are asked to stop by a file that the loop looks for, never by a signal: torchrun dies of
SIGUSR1 and gives its workers 30 seconds after a SIGTERM, less than a checkpoint may take.
Events come back as lines of a file, which works across nodes that share the folder.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from continuum.launchers import OnEvent, Outcome
from continuum.launchers.death import describe_death
from continuum.runs import StageRun
from continuum.stopping import signals_held_back
from continuum.worker import PARENT_VARIABLE

POLL_S = 0.1
SHUTDOWN_TIMEOUT_S = 5
"""What torchrun gives the other ranks after one has died; they cannot go on without it."""


def processes_of(run: StageRun) -> tuple[int, int]:
    """Nodes, and processes on each, that the stage in `run` asks for."""
    runtime = (run.record().recipe or {}).get("runtime", {})
    return int(runtime.get("num_nodes", 1)), int(runtime.get("devices", 1))


class TorchrunLauncher:
    """One torchrun a stage."""

    def __init__(self) -> None:
        self._running: dict[StageRun, subprocess.Popen[bytes]] = {}
        self._guard = threading.Lock()
        self._is_stopping = False

    def launch(self, run: StageRun, on_event: OnEvent) -> Outcome:
        num_nodes, num_devices = processes_of(run)
        if num_nodes > 1 and not has_slurm_job():
            return Outcome(
                "refused",
                f"runtime.num_nodes is {num_nodes}, which needs a Slurm job around the run "
                "(SLURM_JOB_ID and srun); submit it with sbatch, or set num_nodes to 1",
            )
        events = run.path / f".events-{os.getpid()}-{time.time_ns()}.jsonl"
        command = _command(run, events, num_nodes, num_devices)
        with self._guard:
            if self._is_stopping:
                return Outcome("stopped", "not started: the run is stopping")
            run.stop_request.unlink(missing_ok=True)
            events.touch()
            with run.log_path.open("ab") as log, signals_held_back():
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(num_nodes, num_devices),
                )
            self._running[run] = process
        try:
            result = _follow(process, events, on_event)
        finally:
            with self._guard:
                del self._running[run]
            events.unlink(missing_ok=True)
            run.stop_request.unlink(missing_ok=True)
        if result is not None:
            return Outcome(result["status"], result["message"])
        return Outcome("killed", describe_death(process.returncode, run.log_path))

    def stop(self) -> None:
        with self._guard:
            self._is_stopping = True
            for run in self._running:
                run.stop_request.touch()

    def close(self) -> None:
        with self._guard:
            for process in self._running.values():
                process.kill()


def _command(run: StageRun, events: Path, num_nodes: int, num_devices: int) -> list[str]:
    agent = [sys.executable, "-m", "continuum.launchers.agent"]
    common = [
        f"--nproc-per-node={num_devices}",
        "--max-restarts=0",
        f"--monitor-interval={POLL_S}",
        f"--shutdown-timeout={SHUTDOWN_TIMEOUT_S}",
    ]
    worker = ["-m", "continuum.worker", str(run.path), str(events)]
    if num_nodes == 1:
        return [*agent, "--standalone", *common, *worker]
    # A Slurm job's batch step: one torchrun on each node, meeting on the first.
    head = f"{_first_node()}:{_free_port()}"
    return [
        "srun",
        f"--nodes={num_nodes}",
        f"--ntasks={num_nodes}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=1",
        *agent,
        f"--nnodes={num_nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={head}",
        f"--rdzv-id={run.name}",
        *common,
        *worker,
    ]


def _environment(num_nodes: int, num_devices: int) -> dict[str, str]:
    """The ranks of a node share its processors; torchrun alone would give each a single thread."""
    threads = max(1, len(os.sched_getaffinity(0)) // num_devices)
    # On several nodes it is srun's daemon that starts torchrun, not this process.
    parent = {PARENT_VARIABLE: str(os.getpid())} if num_nodes == 1 else {}
    return {"OMP_NUM_THREADS": str(threads), **os.environ, **parent}


def _first_node() -> str:
    """The head node of the Slurm job, as a name that the others can reach."""
    nodes = os.environ.get("SLURM_JOB_NODELIST", "")
    listed = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
    )
    return listed.stdout.split()[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def has_slurm_job() -> bool:
    """Whether this process runs inside a Slurm job that `srun` can start steps in."""
    return "SLURM_JOB_ID" in os.environ and shutil.which("srun") is not None


def _follow(
    process: subprocess.Popen[bytes], events: Path, on_event: OnEvent
) -> dict[str, Any] | None:
    """Pass events on until torchrun has ended; the result, if rank 0 lived to tell one.

    A killed rank counts first, and a rank's failure before rank 0's own word: what the others tell
    then is that they lost a peer.
    """
    results: list[dict[str, Any]] = []
    with events.open("rb") as file:
        while True:
            has_ended = process.poll() is not None
            for event in _new_lines(file):
                if event["event"] == "result":
                    results.append(event)
                else:
                    on_event(event)
            if has_ended:
                break
            time.sleep(POLL_S)
    bad = [result for result in results if result["status"] != "done"]
    if bad:
        return next((result for result in bad if result["status"] == "killed"), bad[0])
    return results[0] if results and process.returncode == 0 else None


def _new_lines(file: BinaryIO) -> list[dict[str, Any]]:
    """The whole lines that were appended since the last call."""
    start = file.tell()
    whole, _, _ = file.read().rpartition(b"\n")
    file.seek(start + len(whole) + (1 if whole else 0))
    found = []
    for line in whole.splitlines():
        with suppress(ValueError):  # a full disk has cut this line off
            found += [json.loads(line)] if line else []
    return found
