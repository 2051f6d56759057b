"""What ended a worker is named with its likely cause, and not with a library's warning."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from continuum.execution.launchers import CrashOutput, without_notices
from continuum.preflight.host import count_oom_kills
from tests.commands import Cli, only, wait_until
from tests.kinds import ill_kind
from tests.kinds.offering import offer
from tests.processes.test_startup import BUSY, write

NOTICES = """\
/site-packages/torch/nn/modules.py:1501: FutureWarning: `check` is deprecated
  return forward_call(*args, **kwargs)
Training:  12%|█▏        | 12/100 [00:01<00:08,  9.87it/s]
node1:88:91 [0] NCCL INFO NET/Socket : Using [0]eth0
[rank0]:[W1130 09:51:55.1 ProcessGroupNCCL.cpp:4561] Warning: barrier() on an unset device
W1130 09:51:55.123000 88 torch/distributed/run.py:774] ***********
INFO:root:loaded
Seed set to 7
Initializing distributed: GLOBAL_RANK: 0, MEMBER: 1/2
--------------------------------------------------------------------------------
distributed_backend=gloo
/site-packages/lightning/fabric/strategies/ddp.py:130: `broadcast_buffers` is deprecated.
"""
WORDS = """\
Traceback (most recent call last):
  File "model.py", line 3, in forward
    return self.check(x)
RuntimeError: 512 classes, 600 given
terminate called after throwing an instance of 'c10::Error'
node1:88:91 [0] NCCL WARN Call to connect failed
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    site = tmp_path_factory.mktemp("site")
    return Cli(offer(site, Path(ill_kind.__file__), dying="Dying", hungry="Hungry"))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was killed by SIGKILL (by hand or by a batch system; the kernel has"),
        pytest.param(
            signal.SIGBUS,
            "was killed by SIGBUS (usually a full /dev/shm",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_signal_is_named_with_its_usual_cause(
    number: signal.Signals, words: str, extended: Cli, tmp_path: Path
) -> None:
    folder = write(tmp_path / "toy", prose={**BUSY, "kind": "dying", "signal": int(number)})
    told = extended("run", folder, expect=5).stderr
    assert f"prose: killed: the worker {words}" in told
    assert "log.txt has only warnings and progress of libraries" in told
    assert "FutureWarning" not in told


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group of version 1 or 2 that kills what takes more than 600 MB."""
    roots = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    for root, limit in zip(roots, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = root / f"continuum-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text("600000000")
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group
        wait_until(partial(is_removed, group), timeout_s=20)
        return
    pytest.skip("this user may not make a control group")


def is_removed(group: Path) -> bool:
    """Remove a control group; False while a process in it has not ended."""
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_memory_that_ran_out_is_named(control_group: Path, extended: Cli, tmp_path: Path) -> None:
    folder = write(tmp_path / "toy", prose={**BUSY, "kind": "hungry"})
    command = [sys.executable, "-m", "continuum", "run", str(folder)]
    joining = f'echo $$ > {control_group}/cgroup.procs; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", joining, "sh", *command],
        capture_output=True,
        text=True,
        env={**os.environ, **extended.environment},
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "prose: killed: the worker was killed by SIGKILL (by the kernel: the proc" in done.stderr
    assert f"the memory limit of their container or job, {control_group}; raise it" in done.stderr
    assert only(folder, "runs/prose-*/attempts.jsonl").is_file()


def test_kills_are_counted_in_both_versions_of_control_groups(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "vmstat").write_text("nr_free_pages 12\noom_kill 5\n")
    job, old = cgroups / "slice" / "job", cgroups / "memory" / "job"
    job.mkdir(parents=True)
    old.mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("4:memory:/job\n0::/slice/job\n")
    (job / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    (old / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert count_oom_kills(proc, cgroups) == {str(job): 1, str(old): 3, "": 5}
    assert count_oom_kills(tmp_path / "none", cgroups) == {}


def test_notices_of_libraries_are_not_last_words(tmp_path: Path) -> None:
    assert without_notices((NOTICES + WORDS + NOTICES).splitlines()) == WORDS.splitlines()
    log = tmp_path / "log.txt"
    output = CrashOutput(log)
    log.write_text(NOTICES)
    assert output.describe("why") == f"why; {log} has only warnings and progress of libraries"
