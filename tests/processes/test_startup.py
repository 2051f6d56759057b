"""Processes that hang before they have anything to save, and those whose run is killed."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.runs.folder import StageRun
from tests.commands import Cli, kill_group, only, wait_until
from tests.experiments import FIRST_STAGES, small_stages
from tests.kinds import ill_kind
from tests.kinds.offering import offer
from tests.processes.pairs import agents_of, ranks_of

IN_TIME_S = 10.0
AT_ONCE_S = 3.0
"""A second, and two for a busy machine."""
BUSY = {"kind": "busy", "sources": [{"python": "keyword.py"}]}


OF_FABRIC_RUN = {
    "LT_CLI_USED": "1",
    "LT_ACCELERATOR": "cuda",
    "LT_DEVICES": "4",
    "LT_NUM_NODES": "2",
    "LT_PRECISION": "bf16-true",
    "LT_STRATEGY": "fsdp",
    "PL_GLOBAL_SEED": "3",
}
OF_TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
    "NODE_RANK": "1",
    "MASTER_ADDR": "10.255.255.1",
    "MASTER_PORT": "1",
    "TORCHELASTIC_RUN_ID": "other",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_ERROR_FILE": "/nowhere/error.json",
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the kinds of `ill_kind.py` are installed."""
    module = Path(ill_kind.__file__)
    classes = {"hanging": "Hanging", "busy": "Busy", "printing": "Printing"}
    return offer(tmp_path_factory.mktemp("site"), module, **classes)


def hanging_training(folder: Path, alone: Path, kind: str = "hanging", **runtime: Any) -> Path:
    """An experiment with its data made and a training that hangs before its first step."""
    shutil.copytree(alone, folder)
    shutil.rmtree(only(folder, "runs/pretrain-*"))
    stages = {name: small_stages()[name] for name in FIRST_STAGES}
    stages["pretrain"] |= {
        "kind": kind,
        "max_steps": 4,
        "runtime": {"micro_batch_size": 2, **runtime},
    }
    return write(folder, **stages)


def write(folder: Path, **stages: Any) -> Path:
    folder.mkdir(exist_ok=True)
    document = {"continuum": 1, "name": "toy", "seed": 7, "stages": stages}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def hangs(folder: Path, stage: str) -> bool:
    return any("hanging" in log.read_text() for log in folder.glob(f"runs/{stage}-*/log.txt"))


def test_variables_of_other_launchers_do_not_reach_a_worker(
    kinds: dict[str, str], tmp_path: Path
) -> None:
    folder = write(tmp_path / "toy", prose={**BUSY, "kind": "printing"})
    own = {"PYTHONWARNINGS": "error,ignore::DeprecationWarning", "PYTHONOPTIMIZE": "2"}
    cli = Cli({**kinds, **OF_FABRIC_RUN, **OF_TORCHRUN, **own, "HF_TOKEN": "kept"})
    told = cli("run", folder).stderr
    assert told.startswith("warning: PYTHONWARNINGS: skipping 'error'\n")
    printed = only(folder, "runs/prose-*/log.txt").read_text().splitlines()[0]
    environment, warn_options = json.loads(printed)
    assert environment["HF_TOKEN"] == "kept"
    assert not {*OF_FABRIC_RUN, *OF_TORCHRUN, "PYTHONOPTIMIZE"} & environment.keys()
    assert warn_options == ["ignore::DeprecationWarning"]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_training_starts_with_the_variables_of_other_launchers(
    devices: int, alone: Path, tmp_path: Path
) -> None:
    folder = hanging_training(tmp_path / "toy", alone, kind="pretrain", devices=devices)
    Cli({**OF_FABRIC_RUN, **OF_TORCHRUN, "PYTHONWARNINGS": "error"})("run", folder)


@contextmanager
def started(cli: Cli, folder: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[str]]:
    """A run that hangs; whatever is left of it is killed."""
    process = cli.start("run", folder)
    try:
        wait_until(lambda: ready() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            kill_group(process)


def stop(process: subprocess.Popen[str], folder: Path) -> None:
    Cli()("stop", folder, "--wait", "0")


def interrupt_twice(process: subprocess.Popen[str], folder: Path) -> None:
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)


def check_end(process: subprocess.Popen[str], folder: Path, end: Any, stage: str) -> None:
    begun_at = time.monotonic()
    end(process, folder)
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - begun_at < IN_TIME_S, told
    assert process.returncode == (75 if end is stop else 130), told
    assert "Traceback" not in told
    last = StageRun(only(folder, f"runs/{stage}-*")).attempts()[-1]
    assert last["event"] == "ended"
    assert "memory" not in last["message"]


@pytest.mark.slow
@pytest.mark.parametrize("end", [stop, interrupt_twice])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_training_that_hangs_before_its_first_step_is_ended(
    devices: int, end: Any, kinds: dict[str, str], alone: Path, tmp_path: Path
) -> None:
    folder = hanging_training(tmp_path / "toy", alone, devices=devices)
    with started(Cli(kinds), folder, lambda: hangs(folder, "pretrain")) as process:
        check_end(process, folder, end, "pretrain")
    wait_until(lambda: not ranks_of(folder) and not agents_of(folder), timeout_s=AT_ONCE_S)


@pytest.mark.parametrize("end", [pytest.param(stop, marks=pytest.mark.slow), interrupt_twice])
def test_a_server_that_hangs_in_an_import_is_ended(
    end: Any, kinds: dict[str, str], tmp_path: Path
) -> None:
    folder = write(tmp_path / "toy", prose=BUSY)
    cli = Cli({**kinds, "HANG_IN_SERVER": "1"})
    ready = lambda: bool(list(folder.glob("runs/prose-*/attempts.jsonl")))  # noqa: E731
    with started(cli, folder, ready) as process:
        check_end(process, folder, end, "prose")


def group_of(run: int) -> list[int]:
    """The processes that live in the process group of a run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == run and fields[0] not in "ZX":
            found.append(int(process.name))
    return found


@pytest.mark.parametrize("place", ["worker", "server"])
def test_nothing_outlives_a_killed_run(place: str, kinds: dict[str, str], tmp_path: Path) -> None:
    folder = write(tmp_path / "toy", prose=BUSY)
    cli = Cli(kinds | ({"HANG_IN_SERVER": "1"} if place == "server" else {}))
    has_begun = lambda: bool(list(folder.glob("runs/prose-*/attempts.jsonl")))  # noqa: E731
    is_in_worker = lambda: hangs(folder, "prose")  # noqa: E731
    with started(cli, folder, is_in_worker if place == "worker" else has_begun) as process:
        assert len(group_of(process.pid)) > 2
        process.kill()
        process.wait()
        try:
            wait_until(lambda: not group_of(process.pid), timeout_s=AT_ONCE_S)
        finally:
            for pid in group_of(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.slow
def test_no_rank_outlives_a_killed_run(kinds: dict[str, str], alone: Path, tmp_path: Path) -> None:
    folder = hanging_training(tmp_path / "toy", alone, devices=2)
    with started(Cli(kinds), folder, lambda: hangs(folder, "pretrain")) as process:
        process.kill()
        process.communicate()
        wait_until(lambda: not ranks_of(folder) and not agents_of(folder), timeout_s=AT_ONCE_S)
