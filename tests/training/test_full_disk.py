import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum.errors import StageFailedError
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.files import find_damage
from continuum.runs.folder import StageRun
from tests.training.samples import Write


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[StageRun]:
    """A run folder on a file system that holds two checkpoints and not three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield StageRun(disk / "pretrain-000000000000")
    finally:
        subprocess.run(["umount", disk], check=True)


def fill(write: Write, run: StageRun) -> tuple[list[TrainingCheckpoint], StageFailedError]:
    """Write checkpoints until the disk is full."""
    written = []
    for step in range(1, 50):
        try:
            written.append(write(step, into=run))
        except StageFailedError as error:
            return written, error
    raise AssertionError("the disk never filled")


def test_a_full_disk_is_told_and_leaves_the_earlier_checkpoints(
    write: Write, small_disk: StageRun
) -> None:
    written, error = fill(write, small_disk)
    assert f"the checkpoint of step {len(written) + 1} cannot be written" in str(error)
    assert "No space left on device" in str(error)
    assert "earlier checkpoints are intact: free some space on the disk at " in str(error)
    assert len(written) >= 1
    assert not any(find_damage(it.path, it.files, read=True) for it in written)
    left = sorted(path.name for path in small_disk.checkpoints_dir.iterdir())
    assert left == [saved.path.name for saved in written]


def test_a_disk_filled_to_any_degree_is_told_the_same_way(
    write: Write, small_disk: StageRun
) -> None:
    """Whichever file is the one that no longer fits."""
    write(1, into=small_disk)
    ballast = small_disk.path / "ballast"
    for free in (0, 4, 12, 24, 32, 64, 128, 160):
        ballast.unlink(missing_ok=True)
        room = subprocess.check_output(["df", "-k", "--output=avail", small_disk.path])
        ballast.write_bytes(bytes(1024 * (int(room.split()[-1]) - free)))
        with pytest.raises(StageFailedError, match="No space left"):
            write(2, into=small_disk)
        assert [p.name for p in small_disk.checkpoints_dir.iterdir()] == ["step-00000001"]


def test_a_limit_on_the_size_of_a_file_leaves_the_earlier_checkpoints(
    write: Write, run: StageRun
) -> None:
    written = write(1, into=run)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written.files[0].size_bytes // 2, hard))
    try:
        with pytest.raises(StageFailedError, match=r"step 2 cannot .*File too large; .*ulimit -f"):
            write(2, into=run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in run.checkpoints_dir.iterdir()] == ["step-00000001"]
