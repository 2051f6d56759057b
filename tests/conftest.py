"""Fixtures for all tests: small experiments on real files, carried out by the real command."""

import fcntl
import hashlib
import os
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Tiny models run faster on one thread, and processes side by side do not spin for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from continuum.cpus import num_processors
from tests.commands import Cli, only
from tests.experiments import DATA_STAGES, shared_data_stages, small_flow
from tests.shares import current_turn, share, store_seconds, stored_seconds
from tests.shipped import copy_shipped

MAX_WORKERS = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of the long tests is run: CI runs a share of them."""
    parser.addoption("--kill-rounds", type=int, default=20, help="rounds of the kill matrix")
    parser.addoption("--pair-runs", type=int, default=3, help="runs of two processes, one by one")
    parser.addoption("--fuzz-cases", type=int, default=2000, help="inputs that fuzzing tries")
    parser.addoption("--seed", type=int, default=0, help="of fuzzing and of the kills' moments")
    parser.addoption("--one-in", type=int, default=1, help="run one share of so many")
    parser.addoption("--turn", type=int, help="which share; by default that of the commit")
    parser.addoption(
        "--store-seconds", action="store_true", help="write the tests' durations to seconds.json"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the turn, and collect durations where they are to be stored."""
    # Hundreds of processes import the same modules: they are compiled once.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if config.option.turn is None and config.option.one_in > 1:
        config.option.turn = current_turn()
    if config.option.store_seconds and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Stopwatch())


class _Stopwatch:
    """Sums up how long each test takes, with its fixtures."""

    def __init__(self) -> None:
        self._seconds = defaultdict[str, float](float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one of a test's three phases."""
        self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Store the sums."""
        store_seconds(self._seconds)


# Ignored signals are inherited: under nohup, or in a script's background, no process would stop.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Plain `pytest` runs files side by side; a chosen part, or one that prints, one by one."""
    option = config.option
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not option.keyword
    is_default = is_whole and option.markexpr in config.getini("addopts")
    is_free = option.numprocesses is None and option.capture != "no"
    if is_default and is_free and not hasattr(config, "workerinput"):
        option.numprocesses = min(MAX_WORKERS, num_processors())
        option.dist, option.loadscopereorder = "loadfile", False


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which share of the tests is run, so that it can be run again."""
    one_in, turn = config.option.one_in, config.option.turn
    return f"one share of {one_in}: --turn {turn % one_in}" if one_in > 1 else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other shares."""
    one_in = config.option.one_in
    if one_in == 1:
        return
    chosen = share((it.nodeid for it in items), one_in, config.option.turn, stored_seconds())
    config.hook.pytest_deselected(items=[it for it in items if it.nodeid not in chosen])
    items[:] = [it for it in items if it.nodeid in chosen]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a CUDA device where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """A test may change neither the environment nor the working directory for the next."""
    environment, folder = dict(os.environ), Path.cwd()
    yield
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(folder)


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Path]:
    """Write the small flow's experiment.yaml (with replaced parts) into a folder; its path."""

    def write(folder: str = "toy", **changes: Any) -> Path:
        path = tmp_path / folder / "experiment.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(small_flow(**changes), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run an experiment once a session, whatever the number of workers: tests copy its folder.

    What its spec shares with the small flow is not made again.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    root = root / "finished"
    root.mkdir(exist_ok=True)

    def run(spec: str) -> Path:
        folder = root / hashlib.sha256(spec.encode()).hexdigest()[:12]
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.with_suffix(".ran").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                (folder / "experiment.yaml").write_text(spec, encoding="utf-8")
                for stage in shared_data_stages(spec):
                    made = only(run(small_flow(only=DATA_STAGES)), f"runs/{stage}-*")
                    shutil.copytree(made, folder / "runs" / made.name)
                Cli()("run", folder)
                folder.with_suffix(".ran").touch()
        return folder

    return run


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """`--seed`, of whatever is drawn at random."""
    return int(request.config.getoption("--seed"))


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A folder with the repository's experiments and configs, as if none had been run."""
    return copy_shipped(tmp_path / "shipped")


@pytest.fixture
def cli() -> Cli:
    """The `continuum` command, as a user runs it."""
    return Cli()
