"""Files of complete runs that were written after their record: `run` reads them, once."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from continuum.runs.files import SETTLED_S, sha256_file, stamp
from tests.commands import Cli, only
from tests.experiments import small_flow

SPEC = small_flow(only=("prose", "tokenizer"), prose__sources=[{"python": "keyword.py"}])


@pytest.fixture
def finished(tmp_path: Path, cli: Cli) -> Path:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "experiment.yaml").write_text(SPEC, encoding="utf-8")
    cli("run", folder)
    return folder


def known(folder: Path) -> dict[str, str]:
    """The cached hashes, by the stamp of their file."""
    found: dict[str, str] = json.loads((folder / "runs/.digests.json").read_text())
    return found


def results(cli: Cli, folder: Path) -> dict[str, str]:
    stages = json.loads(cli("run", folder, "--json").stdout)["stages"]
    return {it["name"]: it["status"] for it in stages}


def test_damage_of_the_same_size_is_found_before_a_stage_is_reused(
    finished: Path, cli: Cli
) -> None:
    text = only(finished, "runs/prose-*/output/*")
    before = text.read_bytes()
    text.write_bytes(before.replace(b"e", b"a"))
    assert "complete" in cli("plan", finished, "--why", "prose").stdout  # it reads no content
    done = cli("run", finished)
    assert "prose: done" in done.stderr
    assert only(finished, "runs/prose-*/output/*").read_bytes() == before
    cli("verify", finished)


def test_a_touched_file_is_reused_and_hashed_once(finished: Path, cli: Cli) -> None:
    text = only(finished, "runs/prose-*/output/*")
    os.utime(text)
    key = stamp(text.stat())
    assert key not in known(finished)
    time.sleep(SETTLED_S + 0.1)
    assert set(results(cli, finished).values()) == {"reused"}
    assert known(finished)[key] == sha256_file(text)
    cache = finished / "runs/.digests.json"
    before = cache.stat().st_ino
    assert set(results(cli, finished).values()) == {"reused"}
    assert cache.stat().st_ino == before  # nothing new was hashed


def test_a_copy_whose_files_have_other_times_is_reused(
    finished: Path, cli: Cli, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, copy_function=shutil.copyfile)
    for path in copy.rglob("output/*"):
        os.utime(path)
    assert set(results(cli, copy).values()) == {"reused"}
