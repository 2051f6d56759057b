"""A limit on the size of a file (`ulimit -f`): named as such, and nothing lost."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from continuum.disk_errors import describe_disk_error
from tests.commands import TIMEOUT_S, Cli
from tests.processes.test_startup import write
from tests.recovery.disks import small_disk
from tests.recovery.test_disk_full import check_whole, outputs
from tests.recovery.test_kill import prepared, unbroken

__all__ = ["prepared", "unbroken"]

LIMITED = (
    "import os, resource, sys\n"
    "limit = int(sys.argv[1])\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'continuum', 'run', sys.argv[2]])\n"
)


def run_limited(folder: Path, limit: int) -> str:
    """What a run reports that may write no larger file than `limit` bytes."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), str(folder)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_corpus_above_the_limit_is_named(tmp_path: Path) -> None:
    prose = {"kind": "fetch", "sources": [{"python": "pydoc_data/topics.py"}]}
    told = run_limited(write(tmp_path / "toy", prose=prose), 100_000)
    assert "File too large" in told
    assert "raise the limit of 100,000 bytes (`ulimit -f`) on the size of a file" in told


@pytest.mark.slow
def test_a_checkpoint_above_the_limit_loses_nothing(
    unbroken: Path, prepared: Path, cli: Cli
) -> None:
    told = run_limited(prepared, 300_000)
    assert "the checkpoint of step 5 cannot be written" in told
    assert "File too large; earlier checkpoints are intact: raise the limit of 300,000" in told
    check_whole(prepared, unbroken, "pretrain")
    cli("run", prepared)
    assert outputs(prepared) == outputs(unbroken)


@contextmanager
def file_limit(num_bytes: int) -> Iterator[None]:
    """Limit the files of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_by_torch(path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 18)}, path)


def save_by_rust(path: Path) -> None:
    save_file({"a": torch.zeros(1 << 18)}, path)


@pytest.mark.parametrize("save", [save_by_torch, save_by_rust])
def test_a_library_that_hides_the_reason_is_seen_through(
    save: Callable[[Path], None], tmp_path: Path
) -> None:
    with file_limit(100_000):
        with pytest.raises((RuntimeError, SafetensorError)) as raised:
            save(tmp_path / "weights")
        told = describe_disk_error(raised.value, tmp_path)
    assert told == (
        f"{tmp_path}: File too large; raise the limit of 100,000 bytes (`ulimit -f`) on the size "
        "of a file and run again; completed results are intact"
    )


def test_a_disk_without_inodes_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m,nr_inodes=8") as disk:
        with suppress(OSError):
            for number in range(9):
                (disk.path / str(number)).touch()
        with pytest.raises(OSError, match="No space left") as raised:
            (disk.path / "last").touch()
        told = describe_disk_error(raised.value, disk.path)
    assert told is not None
    assert f"remove some files from the disk at {disk.path}, which has no inodes left" in told


def test_a_quota_is_named(tmp_path: Path) -> None:
    error = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(tmp_path / "file"))
    told = describe_disk_error(error, tmp_path)
    assert told is not None
    assert "file: Disk quota exceeded; free some space on the disk at " in told
    assert "or have your quota there raised, and run again" in told
