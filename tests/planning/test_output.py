"""`--out` writes where it is told to: into files, through links, into pipes."""

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from continuum.loading.json_schema import schema_text
from tests.commands import Cli
from tests.experiments import FIRST_STAGES
from tests.planning.conftest import Write


def test_a_link_stays_and_its_file_is_written(small: Write, cli: Cli, tmp_path: Path) -> None:
    target, link = tmp_path / "kept" / "plan.json", tmp_path / "link.json"
    target.parent.mkdir()
    link.symlink_to("kept/plan.json")
    for old in (None, "old"):
        if old is not None:
            target.write_text(old, encoding="utf-8")
        cli("plan", small(), "--out", link)
        assert link.is_symlink()
        assert json.loads(target.read_text(encoding="utf-8"))["schema"] == "continuum.plan/1"
        assert [path.name for path in target.parent.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("is_linked", [False, True], ids=["itself", "through a link"])
def test_a_pipe_is_written_to(is_linked: bool, small: Write, cli: Cli, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    out = pipe
    if is_linked:
        out = tmp_path / "link"
        out.symlink_to(pipe)
    got: list[str] = []
    reader = Thread(target=lambda: got.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    cli("plan", small(), "--out", out)
    reader.join(10)
    assert json.loads(got[0])["schema"] == "continuum.plan/1"
    assert pipe.is_fifo()


def test_a_schema_goes_through_a_link_too(cli: Cli, tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    link.symlink_to(target)
    cli("schema", "--out", link)
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == schema_text()


def test_what_takes_nothing_is_an_ordinary_error(small: Write, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # its address may have 107 bytes
        told = cli("plan", small(), "--out", path, expect=4).stderr
    assert told == f"error: {path}: No such device or address\n"
    assert path.is_socket()


def test_a_full_device_is_an_ordinary_error(small: Write, cli: Cli, tmp_path: Path) -> None:
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 7))  # Linux's /dev/full
        device.open("wb").close()
    except OSError:
        pytest.skip("only root makes devices, and not on every disk")
    told = cli("plan", small(), "--out", device, expect=4).stderr
    assert told == f"error: {device}: No space left on device\n"
    assert device.is_char_device()


def test_a_folder_is_a_usage_error_before_anything_is_printed(
    small: Write, cli: Cli, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for out in (".", "", tmp_path, link):
        done = cli("plan", small(), "--out", out, expect=2)
        assert done.stdout == ""
        assert "is a folder; give a file" in done.stderr


def test_a_place_that_cannot_be_is_an_ordinary_error(
    small: Write, cli: Cli, tmp_path: Path
) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    (tmp_path / "file").touch()
    for out in (circle, tmp_path / "file" / "plan.json"):
        assert f"error: {out}: " in cli("plan", small(), "--out", out, expect=4).stderr
    assert circle.is_symlink()


def test_epochs_of_data_that_is_not_made_yet_say_when_their_steps_are_known(
    experiment: Callable[..., Path], cli: Cli
) -> None:
    spec = experiment(only=FIRST_STAGES, pretrain__max_steps=None, pretrain__epochs=1)
    assert "steps: known after tokens" in cli("plan", spec).stdout
