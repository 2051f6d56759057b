"""A `runs` that is no folder, or cannot be written: an error with a remedy from every command."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from continuum.disk_errors import describe_disk_error
from tests.commands import Cli, only
from tests.recovery.disks import small_disk

COMMANDS = ("plan", "status", "runs", "prune", "lineage", "verify", "logs", "stop", "run")


def write(folder: Path) -> Path:
    prose = {"kind": "fetch", "sources": [{"python": "keyword.py"}]}
    document = {"continuum": 1, "name": "toy", "seed": 7, "stages": {"prose": prose}}
    folder.mkdir()
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def errors(cli: Cli, folder: Path) -> dict[str, str]:
    """What each command reports; all refuse before they start anything."""
    told = {}
    for command in COMMANDS:
        words = [command, folder, *(["prose"] if command == "logs" else [])]
        done = cli(*words, expect=4)
        assert done.stdout == ""
        told[command] = done.stderr
    return told


def make_link(runs: Path) -> None:
    runs.symlink_to("/mnt/scratch/unmounted/runs")


def make_file(runs: Path) -> None:
    runs.write_text("")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_link, "a link to /mnt/scratch/unmounted/runs, which does not exist; mount its disk"),
        (make_file, "not a folder; move it away, so that runs can be kept there"),
    ],
)
def test_runs_that_is_no_folder_is_an_error_of_every_command(
    make: Callable[[Path], None], words: str, tmp_path: Path, cli: Cli
) -> None:
    folder = write(tmp_path / "toy")
    make(folder / "runs")
    for command, told in errors(cli, folder).items():
        assert told.startswith(f"error: {folder / 'runs'}: "), command
        assert words in told, command
    cli("validate", folder)


def test_a_run_whose_folder_is_a_link_to_nothing_is_not_a_stage_that_never_ran(
    tmp_path: Path, cli: Cli
) -> None:
    folder = write(tmp_path / "toy")
    cli("run", folder)
    run = only(folder, "runs/prose-*")
    run.rename(tmp_path / "elsewhere")
    run.symlink_to(tmp_path / "unmounted")
    for command in ("plan", "status", "run"):
        told = cli(command, folder, expect=4).stderr
        assert told.startswith(f"error: {run}: a link to {tmp_path / 'unmounted'}, which does not")
    run.unlink()
    run.symlink_to(tmp_path / "elsewhere")
    assert "reuse" in cli("plan", folder).stdout


def test_read_only_runs_can_be_looked_at_and_not_written(tmp_path: Path, cli: Cli) -> None:
    folder = write(tmp_path / "toy")
    with small_disk(tmp_path / "disk", "1m") as disk:
        (folder / "runs").symlink_to(disk.path)
        cli("run", folder)
        (folder / "experiment.yaml").write_text(
            (folder / "experiment.yaml").read_text().replace("keyword.py", "this.py")
        )
        disk.make("ro")
        for command in COMMANDS[:6]:
            assert "bug" not in cli(command, folder, expect=None).stderr, command
        told = cli("run", folder, expect=4).stderr
        assert "Read-only file system; make it writable" in told


def test_a_mount_whose_server_is_gone_is_named(tmp_path: Path) -> None:
    error = OSError(107, "Transport endpoint is not connected", str(tmp_path / "runs"))
    told = describe_disk_error(error, tmp_path)
    assert told is not None
    assert f"{tmp_path}/runs: Transport endpoint is not connected; check the disk" in told
