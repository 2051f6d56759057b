"""What a stage is doing, or how it ended: `plan`, `status`, `runs` and `logs` say the same."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.runs.folder import ExperimentFolder
from tests.commands import Cli, kill_group, only, wait_until
from tests.servers.texts import TextServer, serve_texts

HOST = os.uname().nodename
BOOK = b"".join(b"%06d: the same line again and again, numbered.\n" % n for n in range(40_000))


@dataclass
class Fetching:
    """A `continuum run` whose only stage waits for a slow server."""

    folder: Path
    process: subprocess.Popen[str]

    @property
    def run(self) -> Path:
        return only(self.folder, "runs/book-*")

    @property
    def worker(self) -> int:
        """The process that holds the lock of the stage's run."""
        inode = (self.run / ".lock").stat().st_ino
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        (pid,) = (int(it[4]) for it in locks if it[5].endswith(f":{inode}") and it[1] == "FLOCK")
        return pid


def write(folder: Path, url: str, **more: Any) -> None:
    folder.mkdir(exist_ok=True)
    stages = {"book": {"kind": "fetch", "sources": [{"url": url, "sha256": "0" * 64}]}, **more}
    document = {"continuum": 1, "name": "toy", "seed": 7, "stages": stages}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.fixture
def server() -> Iterator[TextServer]:
    with serve_texts({"/book.txt": BOOK}) as server:
        yield server


@pytest.fixture
def fetching(server: TextServer, tmp_path: Path) -> Iterator[Fetching]:
    server.pause_s = 0.2
    folder = tmp_path / "toy"
    write(folder, f"{server.url}/book.txt")
    it = Fetching(folder, Cli().start("run", folder))
    try:
        wait_until(lambda: bool(list(folder.glob("runs/book-*/partial/*.part"))))
        yield it
    finally:
        if it.process.poll() is None:
            kill_group(it.process)


def states(cli: Cli, folder: Path) -> dict[str, tuple[str, str]]:
    """The state of the book and its cause in each command."""
    (planned,) = json.loads(cli("plan", folder, "--json").stdout)["stages"]
    (reason, *_) = planned["reasons"]
    (status,) = json.loads(cli("status", folder, "--json").stdout)["stages"]
    (run,) = json.loads(cli("runs", folder, "--json").stdout)["runs"]
    found = {
        "plan": (reason["code"], reason.get("how", "")),
        "status": (status["state"], status["how"]),
        "runs": (run["state"], run["how"]),
    }
    note = cli("logs", folder, "book").stderr.strip()
    state, how = found["plan"]
    assert note == f"book: {state}: {how}" if how else note == f"book: {state}"
    return found


def test_a_running_stage_is_running_with_its_process_host_and_time(
    fetching: Fetching, cli: Cli
) -> None:
    who = f"process {fetching.process.pid} on {HOST} since 20"
    for state, how in states(cli, fetching.folder).values():
        assert (state, how[: len(who)]) == ("running", who)
    for command, words in (("status", who), ("plan", f"running: {who}"), ("runs", who)):
        text = cli(command, fetching.folder).stdout
        assert words in text
        assert f"in use by {who}" in text or command == "runs"
    assert who in cli("run", fetching.folder, expect=7).stderr


def kill_run(fetching: Fetching, cli: Cli) -> None:
    kill_group(fetching.process)
    lock = ExperimentFolder(fetching.folder).run_named(fetching.run.name)
    wait_until(lambda: not lock.is_running)


def kill_worker(fetching: Fetching, cli: Cli) -> None:
    os.kill(fetching.worker, signal.SIGKILL)
    _, errors = fetching.process.communicate(timeout=60)
    assert fetching.process.returncode == 5, errors


def stop(fetching: Fetching, cli: Cli) -> None:
    cli("stop", fetching.folder)
    fetching.process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("end", "state", "how"),
    [
        (kill_run, "interrupted", ""),
        (kill_worker, "killed", "the worker was killed by SIGKILL"),
        (stop, "stopped", "stopped; it starts over with the next run"),
    ],
)
def test_a_stage_that_ended_says_how(
    end: Callable[[Fetching, Cli], None], state: str, how: str, fetching: Fetching, cli: Cli
) -> None:
    end(fetching, cli)
    for found, cause in states(cli, fetching.folder).values():
        assert (found, cause[: len(how)]) == (state, how)
        assert "last lines of" not in cause


def test_a_stage_that_failed_says_why_in_every_table(
    server: TextServer, tmp_path: Path, cli: Cli
) -> None:
    write(tmp_path / "toy", f"{server.url}/missing.txt")
    done = cli("run", tmp_path / "toy", expect=5)
    for state, how in states(cli, tmp_path / "toy").values():
        assert state == "failed"
        assert "missing.txt" in how
        assert how in done.stdout


def test_a_stage_that_another_host_runs_is_running_there(fetching: Fetching, cli: Cli) -> None:
    kill_run(fetching, cli)
    folder = ExperimentFolder(fetching.folder)
    with folder.lock():
        assert {it[0] for it in states(cli, fetching.folder).values()} == {"interrupted"}
        owner = {"pid": 4711, "host": "node-7", "since": "2026-01-02T03:04:05.678+00:00"}
        folder.owner_path.write_text(json.dumps(owner), encoding="utf-8")
        who = "process 4711 on node-7 since 2026-01-02 03:04:05 UTC"
        assert set(states(cli, fetching.folder).values()) == {("running", who)}


def test_a_run_whose_spec_was_changed_is_still_shown(fetching: Fetching, cli: Cli) -> None:
    url = "http://127.0.0.1:1/other.txt"
    write(fetching.folder, url)
    (fetching.run / "log.txt").write_text("one line\n", encoding="utf-8")
    changed = "the spec has changed since it started; sources"
    status = cli("status", fetching.folder).stdout
    assert f"runs/{fetching.run.name}" in status
    assert f"process {fetching.process.pid} on {HOST}" in status
    assert changed in status
    (stage,) = json.loads(cli("status", fetching.folder, "--json").stdout)["stages"]
    assert (stage["state"], stage["run"]) == ("running", fetching.run.name)
    logs = cli("logs", fetching.folder, "book")
    assert logs.stdout == "one line\n"
    assert changed in logs.stderr
    assert changed in cli("plan", fetching.folder).stdout
    document = yaml.safe_load((fetching.folder / "experiment.yaml").read_text(encoding="utf-8"))
    document["stages"] = {"notes": document["stages"]["book"]}
    (fetching.folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert "it has no stage 'book' any more" in cli("status", fetching.folder).stdout
    assert cli("logs", fetching.folder, "book").stdout == "one line\n"


def test_the_table_of_a_run_says_why_each_stage_made_nothing(
    server: TextServer, tmp_path: Path, cli: Cli
) -> None:
    second = {"kind": "fetch", "sources": [{"url": f"{server.url}/second.txt"}]}
    below = {"kind": "train_tokenizer", "corpus": "book", "vocab_size": 300}
    write(tmp_path / "toy", f"{server.url}/first.txt", notes=second, tokenizer=below)
    rows = cli("run", tmp_path / "toy", expect=5).stdout.splitlines()
    found = {row.split()[0]: row for row in rows}
    assert "first.txt" in found["book"]
    assert "second.txt" in found["notes"]
    assert "skipped (book failed)" in found["tokenizer"]
