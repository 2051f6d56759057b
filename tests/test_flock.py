"""Locks: the kernel gives them back, and where they would not keep others out nobody writes."""

import subprocess
import sys
from pathlib import Path

import pytest

from continuum.runs.flock import is_locked, locked, mount_of, weakness_of_locks
from tests.commands import Cli
from tests.planning.carrying_out import actions_of
from tests.planning.conftest import Write, small
from tests.tracing import traced

__all__ = ["small"]

ROOT = "23 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro"
HOLD = """
import sys, time
from pathlib import Path
from continuum.runs.flock import locked
with locked(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""


def mount(place: str, kind: str, options: str, source: str = "server:/home") -> str:
    return f"99 23 0:52 / {place} rw,relatime shared:7 - {kind} {source} rw,{options}"


def test_a_lock_keeps_others_out_until_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_locked(path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert is_locked(path)
    with locked(path, timeout_s=0.1) as is_ours:
        assert not is_ours
    holder.kill()
    holder.communicate()
    with locked(path) as is_ours:
        assert is_ours
        assert is_locked(path)
    assert not is_locked(path)


@pytest.mark.parametrize(
    ("kind", "options", "weakness"),
    [
        ("nfs4", "vers=4.2,rsize=1048576,hard,proto=tcp,local_lock=none", None),
        ("nfs", "vers=3,hard,nolock,proto=tcp,local_lock=all", "local_lock=all, nolock"),
        ("nfs", "vers=3,hard,proto=tcp,local_lock=flock", "mounted with local_lock=flock"),
        ("nfs", "vers=3,hard,proto=tcp,local_lock=posix", None),
        ("lustre", "seclabel,flock,lazystatfs", None),
        ("lustre", "seclabel,localflock,lazystatfs", "mounted with localflock"),
        ("cifs", "vers=3.1.1,cache=strict,nobrl", "mounted with nobrl"),
        ("fuse.sshfs", "user_id=1000,group_id=1000", "fuse.sshfs, always"),
        ("beegfs", "cfgFile=/no/such/file", "tuneUseGlobalFileLocks"),
        ("ext4", "localflock", None),
        ("gpfs", "mmfs", None),
    ],
)
def test_locks_that_are_local_to_a_machine_are_named(
    tmp_path: Path, kind: str, options: str, weakness: str | None
) -> None:
    mounts = tmp_path / "mountinfo"
    place = tmp_path / "with space"
    escaped = str(place).replace(" ", "\\040")
    mounts.write_text(f"{ROOT}\n{mount(escaped, kind, options)}\n")
    assert weakness_of_locks(tmp_path, mounts) is None
    found = weakness_of_locks(place / "runs", mounts)
    if weakness is None:
        assert found is None
    else:
        assert found is not None
        assert f"locks on server:/home ({kind}, " in found
        assert weakness in found
        assert found.endswith("are local to this machine")


def test_a_beegfs_with_locks_for_all_machines_is_trusted(tmp_path: Path) -> None:
    config, mounts = tmp_path / "beegfs.conf", tmp_path / "mountinfo"
    config.write_text("connPort = 1\ntuneUseGlobalFileLocks = true\n")
    mounts.write_text(f"{ROOT}\n{mount('/', 'beegfs', f'cfgFile={config}')}\n")
    assert weakness_of_locks(tmp_path, mounts) is None
    config.write_text("#tuneUseGlobalFileLocks = true\n")
    assert weakness_of_locks(tmp_path, mounts) is not None


def test_a_path_belongs_to_the_innermost_mount_and_of_two_to_the_later() -> None:
    mounts = "\n".join(
        (
            ROOT,
            mount("/home", "nfs", "a"),
            mount("/home/me", "xfs", "b"),
            mount("/home", "nfs4", "c"),
        )
    )
    kinds = {
        path: found.kind
        for path in ("/srv", "/home/other", "/homes", "/home/me/x")
        if (found := mount_of(Path(path), mounts))
    }
    assert kinds == {"/srv": "ext4", "/home/other": "nfs4", "/homes": "ext4", "/home/me/x": "xfs"}


def test_this_machine_has_locks_to_trust(tmp_path: Path) -> None:
    assert weakness_of_locks(tmp_path) is None


@pytest.mark.parametrize(
    "error",
    [
        "ENOLCK",
        pytest.param("ENOSYS", marks=pytest.mark.slow),
        pytest.param("EOPNOTSUPP", marks=pytest.mark.slow),
    ],
)
def test_a_file_system_without_locks_is_not_written_to_unless_one_says_so(
    small: Write,
    cli: Cli,
    tmp_path: Path,
    error: str,
) -> None:
    folder = small()

    def without_locks(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ("-m", "continuum", *arguments)
        return traced(tmp_path / "calls", ["flock"], command, inject=[f"flock:error={error}"])

    (folder / "runs").mkdir()
    (folder / "runs" / ".lock").touch()
    refused = without_locks("run", folder, "--in-process")
    assert refused.returncode == 4, refused.stderr
    assert "Traceback" not in refused.stderr
    said = " ".join(refused.stderr.split())
    assert "the file system has no locks (flock: E" in said
    assert "pass --unsafe-locks" in said
    assert not list(folder.glob("runs/*-*"))
    assert without_locks("status", folder).returncode == 0
    assert without_locks("stop", folder).returncode == 4
    done = without_locks("run", folder, "--in-process", "--unsafe-locks")
    assert done.returncode == 0, done.stderr
    assert set(actions_of(folder).values()) == {"reuse"}
