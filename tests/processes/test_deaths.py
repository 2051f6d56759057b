"""Two processes, of which one, or what holds them together, dies: told in seconds, then recovered.

`pytest -m kill` plays a tenth of `--kill-rounds` with each way to die, at random moments.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Cli, kill_group, only, wait_until
from tests.processes.pairs import agents_of, attempts, final_state, losses, ranks_of, spec
from tests.recovery.disks import small_disk

HOST = os.uname().nodename
IN_SECONDS = 30.0
"""On a busy machine; torchrun gives a rank that does not react five before it kills it."""

Blow = Callable[[subprocess.Popen[str], Path], object]


def kill_first_rank(process: subprocess.Popen[str], folder: Path) -> None:
    os.kill(ranks_of(folder)[0], signal.SIGKILL)


def kill_last_rank(process: subprocess.Popen[str], folder: Path) -> None:
    os.kill(ranks_of(folder)[-1], signal.SIGKILL)


def kill_agent(process: subprocess.Popen[str], folder: Path) -> None:
    os.kill(agents_of(folder)[0], signal.SIGKILL)


def kill_run(process: subprocess.Popen[str], folder: Path) -> None:
    process.kill()


def kill_everything(process: subprocess.Popen[str], folder: Path) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def stop_run(process: subprocess.Popen[str], folder: Path) -> None:
    process.send_signal(signal.SIGTERM)


def ask_to_stop(process: subprocess.Popen[str], folder: Path) -> None:
    Cli()("stop", folder)


def stop_everything(process: subprocess.Popen[str], folder: Path) -> None:
    """The run, torchrun and, by themselves since they lead sessions of their own, the ranks."""
    for rank in ranks_of(folder):
        os.kill(rank, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)


def interrupt_everything(process: subprocess.Popen[str], folder: Path) -> None:
    os.killpg(process.pid, signal.SIGINT)


def close_terminal(process: subprocess.Popen[str], folder: Path) -> None:
    os.killpg(process.pid, signal.SIGHUP)


def preempt(process: subprocess.Popen[str], folder: Path) -> None:
    """As submitit does; the agents' signals must not end the ranks."""
    for rank in ranks_of(folder):
        os.kill(rank, signal.SIGUSR2)
    os.killpg(process.pid, signal.SIGUSR2)


def use_up_time(process: subprocess.Popen[str], folder: Path) -> None:
    """One rank reaches `ulimit -t` first."""
    os.kill(ranks_of(folder)[-1], signal.SIGXCPU)


SIGNALS = [close_terminal, preempt, use_up_time]
STOPS = [stop_run, ask_to_stop, stop_everything, interrupt_everything, *SIGNALS]
DEATHS = [kill_first_rank, kill_last_rank, kill_agent, kill_run, kill_everything]


@pytest.fixture(scope="session")
def long_pair(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty steps of two processes, never interrupted."""
    folder = tmp_path_factory.mktemp("pair") / "unbroken"
    renew(alone, folder)
    Cli()("run", folder)
    return folder


def renew(alone: Path, folder: Path) -> None:
    """The data made, and sixty steps of two processes still to do."""
    shutil.copytree(alone, folder)
    shutil.rmtree(only(folder, "runs/pretrain-*"))
    (folder / "experiment.yaml").write_text(spec("ddp", steps=60), encoding="utf-8")


def has_checkpoint(folder: Path) -> bool:
    return bool(list(folder.glob("runs/pretrain-*/checkpoints/step-*")))


def is_writing(folder: Path) -> bool:
    return bool(list(folder.glob("runs/pretrain-*/checkpoints/.step-*.tmp")))


def strike(folder: Path, blow: Blow, ready: Callable[[], bool]) -> tuple[int, str, float]:
    """Start the run, strike when ready; exit code, what was told, seconds until it had ended."""
    process = Cli().start("run", folder)
    try:
        while not ready() and process.poll() is None:
            time.sleep(0.002)
        struck_at = time.monotonic()
        if process.poll() is None and len(ranks_of(folder)) == 2:
            blow(process, folder)
        _, told = process.communicate(timeout=120)
        elapsed_s = time.monotonic() - struck_at
    finally:
        if process.poll() is None:
            kill_group(process)
    wait_until(lambda: not ranks_of(folder) and not agents_of(folder), timeout_s=IN_SECONDS)
    assert "Traceback (most recent" not in told.partition("last lines of")[0]
    return process.returncode, told, elapsed_s


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blow", "cause"),
    [
        (kill_first_rank, f"pretrain: killed: rank 0 on {HOST} was killed by SIGKILL (by hand"),
        (kill_last_rank, f"pretrain: killed: rank 1 on {HOST} was killed by SIGKILL (by hand"),
        (kill_agent, "pretrain: killed: the worker was killed by SIGKILL"),
    ],
)
def test_a_death_is_reported_in_seconds_and_recovered(
    blow: Blow, cause: str, alone: Path, long_pair: Path, tmp_path: Path, cli: Cli
) -> None:
    folder = tmp_path / "struck"
    renew(alone, folder)
    code, told, elapsed_s = strike(folder, blow, lambda: has_checkpoint(folder))
    assert code == 5, told
    assert cause in told
    assert elapsed_s < IN_SECONDS
    cli("run", folder)
    assert final_state(folder) == final_state(long_pair)
    assert losses(folder) == losses(long_pair)


@pytest.mark.slow
@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_of_two_processes_loses_no_step(
    stop: Blow, alone: Path, long_pair: Path, tmp_path: Path, cli: Cli
) -> None:
    folder = tmp_path / "stopped"
    renew(alone, folder)
    code, told, _ = strike(folder, stop, lambda: has_checkpoint(folder))
    assert code == 75, told
    check_nothing_lost(folder)
    cli("run", folder)
    assert final_state(folder) == final_state(long_pair)
    assert losses(folder) == losses(long_pair)


@pytest.mark.slow
def test_nohup_is_respected_by_two_processes(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    renew(alone, folder)
    command = ["nohup", sys.executable, "-m", "continuum", "run", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until(lambda: has_checkpoint(folder))
    for pid in [*ranks_of(folder), *agents_of(folder)]:
        os.kill(pid, signal.SIGHUP)
    close_terminal(process, folder)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told


def check_nothing_lost(folder: Path) -> None:
    newest = max(folder.glob("runs/pretrain-*/checkpoints/step-*"))
    assert newest.name == f"step-{len(losses(folder)):08d}"


@pytest.mark.slow
def test_a_frozen_rank_whose_peer_is_killed_does_not_hang(
    alone: Path, long_pair: Path, tmp_path: Path, cli: Cli
) -> None:
    def freeze_one_and_kill_the_other(process: subprocess.Popen[str], folder: Path) -> None:
        first, last = ranks_of(folder)
        os.kill(last, signal.SIGSTOP)
        os.kill(first, signal.SIGKILL)

    folder = tmp_path / "frozen"
    renew(alone, folder)
    ready = lambda: has_checkpoint(folder)  # noqa: E731
    code, told, elapsed_s = strike(folder, freeze_one_and_kill_the_other, ready)
    assert code == 5, told
    assert "was killed by SIGKILL" in told
    assert elapsed_s < IN_SECONDS
    cli("run", folder)
    assert final_state(folder) == final_state(long_pair)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_a_full_disk_ends_both_processes_with_an_error(
    kind: str, alone: Path, tmp_path: Path, cli: Cli
) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        folder = disk.path / "pair"
        shutil.copytree(alone, folder)
        shutil.rmtree(only(folder, "runs/pretrain-*"))
        (folder / "experiment.yaml").write_text(spec(kind, steps=400), encoding="utf-8")
        fill: Blow = lambda process, folder: disk.fill(leaving_blocks=60)  # noqa: E731
        code, told, _ = strike(folder, fill, lambda: has_checkpoint(folder))
        assert code == 5, told
        assert "No space left on device; earlier checkpoints are intact" in told
        disk.free()
        (folder / "experiment.yaml").write_text(spec(kind, steps=12), encoding="utf-8")
        cli("run", folder)


@pytest.mark.slow
@pytest.mark.parametrize("blow", [kill_agent, kill_run, kill_everything])
def test_ranks_that_have_hardly_begun_do_not_outlive_what_started_them(
    blow: Blow, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "struck"
    renew(alone, folder)
    code, told, _ = strike(folder, blow, lambda: len(ranks_of(folder)) == 2)
    assert code in (5, -signal.SIGKILL), told


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """A tenth of the single process's: starting two takes far longer than what is tried."""
    return max(1, int(request.config.getoption("--kill-rounds")) // 10)


@pytest.mark.kill
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("blow", [*DEATHS, stop_run])
def test_blows_at_random_moments_change_nothing(
    blow: Blow, alone: Path, long_pair: Path, tmp_path: Path, rounds: int, seed: int
) -> None:
    rng, counts = random.Random(f"{blow.__name__} {seed}"), Counter[str]()
    folder = tmp_path / "struck"
    renew(alone, folder)
    for _ in range(rounds):
        code, told, _ = strike(folder, blow, random_moment(folder, rng, counts))
        counts[f"exit {code}"] += 1
        assert code == 0 or (code == 75 if blow in STOPS else code in (5, -signal.SIGKILL)), told
        if code == 75 and has_checkpoint(folder):
            check_nothing_lost(folder)
        if list(folder.glob("runs/pretrain-*/artifact.json")):
            check_end(folder, long_pair, counts)
            shutil.rmtree(folder)
            renew(alone, folder)
    Cli()("run", folder)
    check_end(folder, long_pair, counts)
    print(f"\n{blow.__name__}, {rounds} rounds: {dict(sorted(counts.items()))}")
    assert counts["torn loads"] == 0


def random_moment(folder: Path, rng: random.Random, counts: Counter[str]) -> Callable[[], bool]:
    """Half of the times while a checkpoint is written, else within seconds of the ranks' start."""
    waits_for_writing, skipped, delay_s = rng.random() < 0.5, rng.randrange(400), rng.uniform(0, 12)
    begun_at: list[float] = []

    def is_now() -> bool:
        nonlocal skipped
        if waits_for_writing:
            skipped -= is_writing(folder)
            counts["while writing"] += skipped == 0
            return skipped <= 0
        if not begun_at and len(ranks_of(folder)) == 2:
            begun_at.append(time.monotonic())
        return bool(begun_at) and time.monotonic() - begun_at[0] > delay_s

    return is_now


def check_end(folder: Path, unbroken: Path, counts: Counter[str]) -> None:
    assert final_state(folder) == final_state(unbroken)
    assert losses(folder) == losses(unbroken)
    counts["finished runs, equal to the unbroken one"] += 1
    lines = attempts(folder)
    counts["attempts recorded"] += sum(line["event"] == "started" for line in lines)
    counts["recovered"] += sum(line["event"] == "recovered" for line in lines)
    counts["torn loads"] += sum(line["event"] == "checkpoint_passed_over" for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_run_after_run_of_two_processes_ends_with_exit_0(
    alone: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What gloo aborts at exit, it aborts only now and then: `--pair-runs 50` in full."""
    runs = request.config.getoption("--pair-runs")
    folder = tmp_path / "pair"
    shutil.copytree(alone, folder)
    codes = Counter[int]()
    for number in range(runs):
        shutil.rmtree(only(folder, "runs/pretrain-*"))
        kind = ("ddp", "fsdp")[number % 2]
        (folder / "experiment.yaml").write_text(spec(kind, steps=2), encoding="utf-8")
        codes[Cli()("run", folder, expect=None).returncode] += 1
    print(f"\n{runs} runs of two processes: exit codes {dict(codes)}")
    assert codes == {0: runs}
