"""Disks that refuse: a folder mounted read-only, or locked while a run writes; a full `/tmp`."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import Cli, only, wait_until
from tests.recovery.disks import SmallDisk, small_disk
from tests.recovery.test_disk_full import check_whole, disk, outputs, prepare, unbroken

__all__ = ["disk", "unbroken"]


def final_line(told: str) -> str:
    return told.strip().splitlines()[-1]


@contextmanager
def immutable(folder: Path) -> Iterator[None]:
    """Nothing can be made or removed in the folder, not even by root."""
    locked = subprocess.run(["chattr", "+i", folder], capture_output=True, check=False)
    if locked.returncode:
        pytest.skip("this user or file system knows no immutable folders")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)


@pytest.mark.slow
def test_a_read_only_folder_can_be_looked_at_and_is_not_run(
    unbroken: Path, disk: SmallDisk, cli: Cli
) -> None:
    folder = prepare(unbroken, disk, "weights")
    disk.make("ro")
    for command in ("validate", "plan", "status"):
        cli(command, folder)
    cli("logs", folder, "pretrain")
    told = final_line(cli("run", folder, expect=4).stderr)
    assert told.startswith("error: ")
    assert f"Read-only file system; make it writable (disk at {disk.path})" in told
    disk.make("rw")
    cli("run", folder)
    assert outputs(folder) == outputs(unbroken)


@pytest.mark.slow
def test_a_folder_locked_during_a_run_ends_it_with_an_error(
    unbroken: Path, disk: SmallDisk, cli: Cli
) -> None:
    folder = prepare(unbroken, disk, "pretrain")
    process = cli.start("run", folder)
    wait_until(lambda: bool(list(folder.glob("runs/pretrain-*/checkpoints/step-*"))))
    with immutable(only(folder, "runs/pretrain-*/checkpoints")):
        _, told = process.communicate(timeout=60)
    assert process.returncode == 5, told
    assert "Operation not permitted; earlier checkpoints are intact: make the folder writable" in (
        final_line(told)
    )
    check_whole(folder, unbroken, "pretrain")
    cli("run", folder)
    assert outputs(folder) == outputs(unbroken)


@pytest.mark.slow
def test_a_run_folder_locked_before_the_start_is_reported(
    unbroken: Path, disk: SmallDisk, cli: Cli
) -> None:
    folder = prepare(unbroken, disk, "weights")
    with immutable(folder / "runs"):
        told = final_line(cli("run", folder, expect=None).stderr)
    assert told.startswith("error: ")
    assert "runs/" in told
    assert "make it writable" in told
    cli("run", folder)
    assert outputs(folder) == outputs(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_full_temporary_directory_is_not_needed(
    devices: int, unbroken: Path, disk: SmallDisk, tmp_path: Path
) -> None:
    folder = prepare(unbroken, disk, "pretrain")
    spec = (folder / "experiment.yaml").read_text(encoding="utf-8")
    changed = spec.replace("micro_batch_size: 4", f"micro_batch_size: 4\n      devices: {devices}")
    (folder / "experiment.yaml").write_text(changed, encoding="utf-8")
    with small_disk(tmp_path / "temporary", "64k") as temporary:
        temporary.fill(leaving_blocks=0)
        Cli({"TMPDIR": str(temporary.path)})("run", folder)
    if devices == 1:
        assert outputs(folder) == outputs(unbroken)
