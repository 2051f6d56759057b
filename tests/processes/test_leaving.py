"""What a worker has told stands, however its process ends; the end of a silent one is named."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.execution.launchers.local import LocalLauncher
from continuum.runs.events import Outcome
from continuum.runs.folder import StageRun
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_stages
from tests.kinds import leaving_kind
from tests.kinds.offering import offer

KIND = Path(leaving_kind.__file__)
HOST = os.uname().nodename


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command with the kinds of `leaving_kind.py`."""
    kinds = {"leaving": "Leaving", "leaving_pair": "LeavingPair"}
    return Cli(offer(tmp_path_factory.mktemp("site"), KIND, **kinds))


def write(folder: Path, **stages: Any) -> Path:
    folder.mkdir(exist_ok=True)
    document = {"continuum": 1, "name": "toy", "seed": 7, "stages": stages}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def pair(folder: Path, **fields: Any) -> Path:
    stages = {name: small_stages()[name] for name in FIRST_STAGES}
    stages["pretrain"] |= {"kind": "leaving_pair", "max_steps": 2, **fields}
    stages["pretrain"]["runtime"] = {"micro_batch_size": 2, "devices": 2}
    return write(folder, **stages)


def last_attempt(folder: Path, stage: str) -> tuple[str, str]:
    ended = StageRun(only(folder, f"runs/{stage}-*")).attempts()[-1]
    return ended["status"], ended["message"]


@pytest.mark.parametrize(
    ("exit_code", "how"), [(3, "ended with exit code 3"), (-11, "was killed by SIGSEGV")]
)
def test_a_worker_that_dies_while_leaving_has_done_its_stage(
    exit_code: int, how: str, extended: Cli, tmp_path: Path
) -> None:
    sources = [{"python": "keyword.py"}]
    stage = {"kind": "leaving", "sources": sources, "exit_code": exit_code}
    folder = write(tmp_path / "toy", prose=stage)
    told = extended("run", folder).stderr
    message = f"the worker {how} during shutdown; the result is valid"
    assert f"prose: done: {message}" in told
    assert last_attempt(folder, "prose") == ("done", message)
    assert only(folder, "runs/prose-*/artifact.json").is_file()


@pytest.mark.slow
def test_a_rank_that_dies_while_leaving_does_not_undo_what_is_published(
    extended: Cli, tmp_path: Path
) -> None:
    folder = pair(tmp_path / "toy", when="last", exit_code=3)
    extended("run", folder)
    status, message = last_attempt(folder, "pretrain")
    assert status == "done"
    assert (
        message == f"rank 1 on {HOST} ended with exit code 3 during shutdown; the result is valid"
    )
    assert only(folder, "runs/pretrain-*/artifact.json").is_file()


@pytest.mark.slow
def test_a_rank_that_ends_without_a_word_is_named_with_its_exit_code(
    extended: Cli, tmp_path: Path
) -> None:
    folder = pair(tmp_path / "toy", when="first", exit_code=7)
    told = extended("run", folder, expect=5).stderr
    assert f"pretrain: crashed: rank 1 on {HOST} ended with exit code 7 and no result" in told
    assert not list(folder.glob("runs/pretrain-*/artifact.json"))


def test_a_worker_waits_for_the_one_that_works_in_the_same_folder(
    fetched: StageRun, launcher: LocalLauncher
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with fetched.worker_lock():
            second = pool.submit(launcher.launch, fetched, fetched.record(), lambda event: None)
            time.sleep(2)
            assert not fetched.is_complete
            assert not second.done()
        assert second.result(timeout=60) == Outcome("done")


@pytest.mark.parametrize("number", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.timeout(1200)
def test_no_exit_code_is_lost_among_stages_side_by_side(
    number: int, fetched: StageRun, launcher: LocalLauncher
) -> None:
    record = fetched.record()
    folders = [fetched.experiment_folder.with_name(f"toy-{n}") for n in range(number)]
    runs = [StageRun(folder / "runs" / fetched.name) for folder in folders]
    begun_at = time.monotonic()

    def launch(run: StageRun) -> Outcome:
        run.begin(record)
        return launcher.launch(run, record, lambda event: None)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(launch, runs))
    assert set(outcomes) == {Outcome("done")}
    assert all(run.is_complete for run in runs)
    print(f"\n{number:,} stages in {time.monotonic() - begun_at:.0f} s")


@pytest.fixture
def fetched(tmp_path: Path, cli: Cli) -> StageRun:
    """A run folder whose stage is begun and not done."""
    prose = {"kind": "fetch", "sources": [{"python": "keyword.py"}]}
    folder = write(tmp_path / "toy", prose=prose)
    cli("run", folder)
    run = StageRun(only(folder, "runs/prose-*"))
    (run.path / "artifact.json").unlink()
    return run


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    launcher = LocalLauncher()
    yield launcher
    launcher.close()
