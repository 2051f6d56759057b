"""Jobs of the test cluster: submitted, watched, and their processes found."""

import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.cluster import Cluster

END_TIMEOUT_S = 240.0
SWEEP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Job:
    """One job; `log` is what its batch script and `continuum run` said."""

    cluster: Cluster
    number: str
    log: Path

    def field(self, name: str) -> str:
        """A field of `scontrol show job`."""
        shown = self.cluster.call("scontrol", "show", "job", "--oneliner", self.number)
        (value,) = re.findall(rf"(?:^| ){name}=(\S*)", shown)
        return str(value)

    def told(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def ends(self) -> tuple[str, int]:
        """Wait for the end; the state and the batch script's exit code. Nothing is left behind."""
        running = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
        self.waits_for(lambda: self.field("JobState") not in running)
        self.leaves_nothing()
        return self.field("JobState"), int(self.field("ExitCode").partition(":")[0])

    def leaves_nothing(self) -> None:
        """No process of the job is left, not even one that Slurm has lost."""
        self.waits_for(lambda: not self.cluster.processes(self.number), timeout_s=SWEEP_TIMEOUT_S)

    def ranks(self, node: str) -> dict[int, int]:
        """Processes that train on a node, by rank."""
        return {int(e["RANK"]): pid for pid, e in self._on(node) if "LOCAL_RANK" in e}

    def agent(self, node: str) -> int:
        """The process that started the ranks of a node."""
        (pid,) = (
            p
            for p, _ in self._on(node)
            if b"continuum.execution.launchers.torchrun_agent" in _command(p)
        )
        return pid

    def run(self) -> int:
        """`continuum run` itself, a process of the batch script."""
        found = (p for p in self.cluster.processes(self.number) if _is_run(_command(p)))
        return next(iter(found))

    def waits_for(self, condition: object, timeout_s: float = END_TIMEOUT_S) -> None:
        """Poll until `condition()`; fails the test, with the job's words, when it does not come."""
        assert callable(condition)
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                left = {p: _command(p) for p in self.cluster.processes(self.number)}
                raise AssertionError(f"waited in vain\n{self.told()}\nprocesses: {left}")
            time.sleep(0.05)

    def _on(self, node: str) -> Iterable[tuple[int, dict[str, str]]]:
        for pid in self.cluster.processes(self.number):
            environment = _environment(pid)
            if environment.get("SLURMD_NODENAME") == node:
                yield pid, environment


def submit(cluster: Cluster, folder: Path, *options: str, body: str | None = None) -> Job:
    """Submit a job over both nodes that runs the experiment, or `body`.

    The batch script becomes `continuum run`, so that its signals reach that process directly.
    """
    script = folder / "job.sh"
    body = body or f"exec {sys.executable} -m continuum run {folder}"
    script.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    return submit_script(cluster, folder, *options, script)


def submit_script(cluster: Cluster, folder: Path, *command: object) -> Job:
    """Submit with sbatch's options and a script at the end of `command`."""
    options = ("--nodes=2", "--open-mode=append", f"--output={folder}/job-%j.log")
    number = cluster.call("sbatch", "--parsable", *options, *command)
    return Job(cluster, number, folder / f"job-{number}.log")


def _environment(pid: int) -> dict[str, str]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def _command(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_run(command: list[bytes]) -> bool:
    return b"run" in command and any(part.endswith(b"continuum") for part in command)
