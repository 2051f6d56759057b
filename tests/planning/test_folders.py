"""The folder of an experiment: moved, copied, and used by two at once."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from continuum.planning.plan import Request
from continuum.runs.files import SETTLED_S, DigestCache, sha256_file
from tests.commands import Cli, kill_group, only, wait_until
from tests.planning.carrying_out import actions_of, artifacts_of, plan_of, run
from tests.planning.conftest import Write
from tests.planning.edits import edit
from tests.planning.worlds import text_of
from tests.servers.texts import TextServer, serve_texts


def move(source: Path, target: Path) -> None:
    shutil.move(source, target)


def copy_with_times(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def copy_without_times(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", source, target], check=True)


@pytest.mark.parametrize("put", [move, copy_with_times, copy_without_times])
def test_at_another_place_everything_is_reused(
    put: Callable[[Path, Path], None], small: Write, tmp_path: Path, cli: Cli
) -> None:
    folder = small()
    before = artifacts_of(run(folder).plan)
    target = tmp_path / "far away" / "it"
    target.parent.mkdir()
    put(folder, target)
    assert set(actions_of(target).values()) == {"reuse"}
    cli("run", target, "--in-process", "--locked")
    assert artifacts_of(plan_of(target)) == before


def test_an_experiment_that_a_link_leads_to_is_the_same(
    small: Write, tmp_path: Path, cli: Cli
) -> None:
    folder = small()
    run(folder)
    (tmp_path / "link").symlink_to(folder)
    cli("plan", tmp_path / "link", "--detailed-exitcode")


def test_the_latest_run_is_the_latest_in_a_copy_too(small: Write, tmp_path: Path) -> None:
    """What a change is told against must not hang on times that a copy does not keep."""
    folder = small()
    for size in (300, 280, 290):
        edit("vocab_size: 270", f"vocab_size: {size}")(folder)
        run(folder)
        edit(f"vocab_size: {size}", "vocab_size: 270")(folder)
    copy_without_times(folder, tmp_path / "copy")
    oldest = plan_of(folder, Request(overrides=("stages.tokenizer.vocab_size=300",)))
    os.utime(oldest.stages["tokenizer"].run.path / "stage.json")
    for place in (folder, tmp_path / "copy"):
        (reason,) = plan_of(place).stages["tokenizer"].reasons
        assert str(reason) == "vocab_size changed: 290 -> 270"


def test_what_is_put_aside_never_falls_on_what_was_before(small: Write) -> None:
    folder = small()
    again = Request(rerun=frozenset({"book"}))
    for _ in range(3):
        run(folder, again)
    archive = folder / "runs" / ".archive"
    shutil.rmtree(only(archive, "book-*.1"))
    run(folder, again)
    run(folder, again)
    assert [path.suffix for path in sorted(archive.glob("book-*"))] == [".1", ".2", ".3"]


@pytest.fixture
def slow_text() -> Iterator[TextServer]:
    """A text that takes minutes to arrive."""
    with serve_texts({"/a.txt": text_of("a", 0) * 20}) as server:
        server.pause_s = 5.0
        yield server


def test_a_folder_has_one_writer_and_any_number_of_readers(
    small: Write, slow_text: TextServer, cli: Cli
) -> None:
    folder = small(slow={"kind": "fetch", "sources": [{"url": f"{slow_text.url}/a.txt"}]})
    first = cli.start("run", folder)
    try:
        wait_until(lambda: bool(slow_text.requests))
        for command in ("run", "lock"):
            told = cli(command, folder, expect=7).stderr
            assert f"{folder}: in use by process {first.pid} on " in told
        for command in ("plan", "status", "validate"):
            cli(command, folder)
    finally:
        kill_group(first)
    slow_text.pause_s = 0.0
    cli("run", folder)
    assert set(actions_of(folder).values()) == {"reuse"}


def test_the_lock_of_a_process_that_died_holds_nobody(
    small: Write, slow_text: TextServer, cli: Cli
) -> None:
    folder = small(slow={"kind": "fetch", "sources": [{"url": f"{slow_text.url}/a.txt"}]})
    first = cli.start("run", folder)
    wait_until(lambda: bool(slow_text.requests))
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    owner = json.loads((folder / "runs" / ".owner.json").read_text())
    assert owner["pid"] == first.pid
    cli("lock", folder, expect=None)
    assert json.loads((folder / "runs" / ".owner.json").read_text())["pid"] != first.pid


def test_a_file_that_changes_within_a_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path, digests = tmp_path / "a.txt", DigestCache(tmp_path / "digests.json")
    path.write_bytes(b"one")
    first, written = digests.sha256(path), path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert digests.sha256(path) != first


def test_a_file_that_was_left_alone_is_hashed_once(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.txt", tmp_path / "digests.json"
    path.write_bytes(b"one")
    digests = DigestCache(cache)
    assert digests.sha256(path) == digests.sha256(path)
    digests.save()
    assert not cache.exists(), "it was written just now"
    wait_until(lambda: _age_s(path) > SETTLED_S)
    digests.sha256(path)
    digests.save()
    (known,) = json.loads(cache.read_text()).values()
    assert known == digests.sha256(path)
    cache.write_text(cache.read_text().replace(known, "remembered"))
    assert DigestCache(cache).sha256(path) == "remembered"
    os.utime(path)
    assert DigestCache(cache).sha256(path) == known


@pytest.mark.parametrize("damage", ["", "[]", "{", "3"])
def test_a_damaged_cache_of_digests_is_made_anew(tmp_path: Path, damage: str) -> None:
    path, cache = tmp_path / "a.txt", tmp_path / "digests.json"
    path.write_bytes(b"one")
    cache.write_text(damage)
    assert DigestCache(cache).sha256(path) == sha256_file(path)


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_ctime
