"""A real Slurm of two nodes on this one machine, for as long as the tests run.

No systemd, no cgroups, no accounting database: the daemons run in the foreground below this
process, as its user, and listen on the loopback device. Nothing is written outside one folder.

The nodes are called 127.0.0.1 and 127.0.0.2, names that resolve anywhere. Slurm's `linuxproc`
follows parent links, so that a process whose parent has died is lost to it: a cluster with cgroups
would end it. `orphans` finds such processes by their environment, and `stop` sweeps them.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NODES = ("127.0.0.1", "127.0.0.2")
PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "srun": "slurm-wlm", "munged": "munge"}
SBIN = "/usr/sbin:/sbin"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
CPUS_PER_NODE = 4
GPUS_PER_NODE = 2
"""Pretended, as links to /dev/null: enough for Slurm to hand them out and to name them."""

CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
{loopback}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A requeued job waits for this and one second more, by default 121 s; less than 5 is refused.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Jobs that do not say take a part, so that several fit on a node.
DefMemPerNode=8000
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
JobRequeue=1
ReturnToService=2
KillWait=20
MinJobAge=600
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs={cpus} RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN"
)


def missing_packages() -> list[str]:
    """Debian packages that are not installed here."""
    path = f"{os.environ['PATH']}:{SBIN}"
    return sorted({p for command, p in PACKAGES.items() if not shutil.which(command, path=path)})


class Cluster:
    """The daemons, and the environment in which Slurm's commands find them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))},
            "PATH": f"{os.environ['PATH']}:{SBIN}",
            "SLURM_CONF": str(self.config),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Return when both nodes are idle.

        Raises:
            RuntimeError: they did not come up; the ends of the logs are in the message.
        """
        self._write_config()
        self._daemon("munged", f"--key-file={self.folder}/munge.key", *self._munge_options())
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-i")
        for name in NODES:
            (self.folder / f"spool-{name}").mkdir()
            self._daemon("slurmd", "-D", "-N", name)
        self._wait(lambda: self._num_idle() == len(NODES), "the nodes")

    def stop(self) -> None:
        """Cancel what runs, end the daemons, and sweep what the jobs left behind."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.call("scancel", f"--user={getpass.getuser()}", "--signal=KILL")
            self._wait(lambda: not self.call("squeue", "--noheader"), "the jobs", STOP_TIMEOUT_S)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def call(self, *command: object) -> str:
        """What one of Slurm's commands prints.

        Raises:
            AssertionError: it failed; what it said is in the message.
        """
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def processes(self, job: str | None = None) -> list[int]:
        """Processes of this cluster's jobs (or of one), those that Slurm has lost included."""
        wanted = {f"SLURM_CONF={self.config}"} | ({f"SLURM_JOB_ID={job}"} if job else set())
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                names = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            in_job = any(name.startswith("SLURM_JOB_ID=") for name in names)
            if in_job and wanted <= set(names):
                found.append(int(process.name))
        return sorted(found)

    def _num_idle(self) -> int:
        try:
            listed = self.call("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N")
        except AssertionError:
            return 0
        return len(listed.split())

    def _munge_options(self) -> list[str]:
        names = ("socket", "pid-file", "seed-file")
        files = [f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in names]
        return ["--foreground", "--num-threads=2", f"--log-file={self.folder}/munge.log", *files]

    def _daemon(self, *command: str) -> None:
        """Start one that is interrupted when this process dies."""
        environment = {
            "PATH": self.environment["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": os.environ.get("HOME", "/"),
            "SLURM_CONF": str(self.config),
        }
        with (self.folder / "daemons.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "continuum.execution.launchers.slurm", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._daemons.append(started)

    def _wait(self, is_there: object, what: str, timeout_s: float = START_TIMEOUT_S) -> None:
        assert callable(is_there)
        end = time.monotonic() + timeout_s
        while not is_there():
            if time.monotonic() > end or any(d.poll() is not None for d in self._daemons):
                log = (self.folder / "daemons.log").read_text(errors="replace")
                raise RuntimeError(f"waited in vain for {what}:\n{log[-4000:]}")
            time.sleep(0.1)

    def _write_config(self) -> None:
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        (self.folder / "state").mkdir()
        host, ports = socket.gethostname().split(".")[0], _free_ports(1 + len(NODES))
        for number in range(GPUS_PER_NODE):
            (self.folder / f"gpu{number}").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(
            f"NodeName={','.join(NODES)} Name=gpu File={self.folder}/gpu[0-{GPUS_PER_NODE - 1}]\n"
        )
        nodes = [
            NODE.format(name=name, host=host, port=port, cpus=CPUS_PER_NODE, gpus=GPUS_PER_NODE)
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        self.config.write_text(
            CONFIG.format(
                host=host,
                user=getpass.getuser(),
                folder=self.folder,
                ports=ports,
                loopback=_loopback_only(),
                nodes="\n".join(nodes),
            )
        )


def _loopback_only() -> str:
    """With these flags a daemon binds to what the host's name resolves to: nothing else, or all."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = ""
    is_loopback = address.startswith("127.")
    return "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if is_loopback else ""


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
