"""Stops of every kind of stage: prompt, exit 75, and the next run goes on or starts over."""

import fcntl
import hashlib
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml

from continuum.runs.folder import StageRun
from tests.commands import Cli, kill_group, only, wait_until
from tests.recovery.test_kill import final_weights, has_checkpoint, losses, prepared, unbroken
from tests.servers.texts import TextServer, serve_texts

__all__ = ["prepared", "unbroken"]
PROMPT_S = 20.0
"""Includes the wait for a busy machine; nothing here would end by itself so soon."""
BOOK = b"".join(b"%06d: the same line again and again, numbered.\n" % n for n in range(40_000))

Stop = Callable[[subprocess.Popen[str], Path], object]


def signal_run(process: subprocess.Popen[str], folder: Path) -> None:
    process.send_signal(signal.SIGTERM)


def signal_all(process: subprocess.Popen[str], folder: Path) -> None:
    """As `timeout`, systemd and Slurm do."""
    os.killpg(process.pid, signal.SIGTERM)


def interrupt_all(process: subprocess.Popen[str], folder: Path) -> None:
    """As a terminal does on Ctrl-C."""
    os.killpg(process.pid, signal.SIGINT)


def stop_command(process: subprocess.Popen[str], folder: Path) -> None:
    Cli()("stop", folder, "--wait", "0")


STOPS = [
    pytest.param(signal_run, marks=pytest.mark.slow),
    pytest.param(signal_all, marks=pytest.mark.slow),
    pytest.param(interrupt_all, marks=pytest.mark.slow),
    stop_command,
]


@pytest.fixture
def server() -> Iterator[TextServer]:
    with serve_texts({"/book.txt": BOOK}) as server:
        yield server


def write_spec(folder: Path, **stages: object) -> Path:
    folder.mkdir(exist_ok=True)
    document = {"continuum": 1, "name": "toy", "seed": 7, "stages": stages}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def stop_when(begun: Callable[[], bool], folder: Path, stop: Stop) -> str:
    """Start the run, stop it when something has begun, and return what it told."""
    process = Cli().start("run", folder)
    try:
        wait_until(lambda: begun() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        started_at = time.monotonic()
        stop(process, folder)
        _, told = process.communicate(timeout=60)
        assert time.monotonic() - started_at < PROMPT_S
        assert process.returncode == 75, told
        assert "Traceback" not in told
    finally:
        if process.poll() is None:
            kill_group(process)
    return told


def has_received(folder: Path) -> bool:
    arrived = list(folder.glob("runs/book-*/partial/*.part"))
    return bool(arrived) and arrived[0].stat().st_size > 0


@pytest.mark.parametrize("stop", STOPS)
def test_a_stopped_download_is_resumed(
    stop: Stop, server: TextServer, tmp_path: Path, cli: Cli
) -> None:
    sources = [{"url": f"{server.url}/book.txt", "sha256": hashlib.sha256(BOOK).hexdigest()}]
    folder = write_spec(tmp_path / "toy", book={"kind": "fetch", "sources": sources})
    server.pause_s = 0.2  # 100 seconds for the whole book
    told = stop_when(partial(has_received, folder), folder, stop)
    assert "book: stopped" in told
    server.pause_s = 0
    cli("run", folder)
    assert server.requests[-1].first_byte > 0
    assert only(folder, "runs/book-*/output/*book.txt").read_bytes() == BOOK


def close_terminal(process: subprocess.Popen[str], folder: Path) -> None:
    """The shell's SIGHUP to all processes of the job."""
    os.killpg(process.pid, signal.SIGHUP)


def use_up_time(process: subprocess.Popen[str], folder: Path) -> None:
    """The kernel's SIGXCPU when `ulimit -t` is reached, to one of the processes."""
    process.send_signal(signal.SIGXCPU)


def preempt(process: subprocess.Popen[str], folder: Path) -> None:
    """submitit's signal, from Slurm to all processes of the job."""
    os.killpg(process.pid, signal.SIGUSR2)


SIGNALS = [
    close_terminal,
    *(pytest.param(stop, marks=pytest.mark.slow) for stop in (signal_run, use_up_time, preempt)),
]


@pytest.mark.parametrize("stop", SIGNALS)
def test_a_download_from_a_silent_server_is_stopped(stop: Stop, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked, done = Event(), Event()

        def answer_nothing() -> None:
            connection, _ = silent.accept()
            with connection:
                asked.set()
                done.wait()

        thread = Thread(target=answer_nothing)
        thread.start()
        sources = [{"url": f"http://127.0.0.1:{silent.getsockname()[1]}/book.txt"}]
        folder = write_spec(tmp_path / "toy", book={"kind": "fetch", "sources": sources})
        try:
            assert "book: stopped" in stop_when(asked.is_set, folder, stop)
        finally:
            done.set()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["tokenizer", "tokens"])
def test_a_stopped_stage_without_state_starts_over(stage: str, tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    write_many_words(folder / "words.txt", num_words=4_000_000)
    write_spec(
        folder,
        prose={"kind": "fetch", "sources": [{"python": "pydoc_data/topics.py"}]},
        words={"kind": "fetch", "sources": [{"path": "words.txt"}]},
        tokenizer={
            "kind": "train_tokenizer",
            "corpus": "words" if stage == "tokenizer" else "prose",
            "vocab_size": 2000,
        },
        tokens={
            "kind": "tokenize",
            "corpus": "words",
            "tokenizer": "tokenizer",
            "validation": {"fraction": 0.01},
        },
    )
    begun = f"runs/{stage}-*/attempts.jsonl"
    told = stop_when(lambda: bool(list(folder.glob(begun))), folder, signal_run)
    assert f"{stage}: stopped" in told
    assert not list(folder.glob(f"runs/{stage}-*/artifact.json"))
    write_many_words(folder / "words.txt", num_words=1000)
    cli("run", folder)
    assert list(folder.glob(f"runs/{stage}-*/artifact.json"))


def write_many_words(path: Path, *, num_words: int) -> None:
    """Hardly two of them alike, so that there is much to learn and to look up."""
    rng = random.Random(1)
    words = (f"{rng.getrandbits(60):x}" for _ in range(num_words))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{word}{' ' if n % 12 else chr(10)}" for n, word in enumerate(words, 1))


@pytest.mark.parametrize("stop", STOPS)
def test_a_stopped_training_loses_no_step(
    stop: Stop, unbroken: Path, prepared: Path, cli: Cli
) -> None:
    stop_when(partial(has_checkpoint, prepared, 1), prepared, stop)
    newest = max(prepared.glob("runs/pretrain-*/checkpoints/step-*"))
    assert newest.name == f"step-{losses(prepared)[-1][0]:08d}"
    cli("run", prepared)
    assert final_weights(prepared) == final_weights(unbroken)
    assert losses(prepared) == losses(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [close_terminal, use_up_time, preempt])
def test_any_signal_that_can_be_caught_saves_the_training(
    stop: Stop, unbroken: Path, prepared: Path, cli: Cli
) -> None:
    stop_when(partial(has_checkpoint, prepared, 1), prepared, stop)
    ended = StageRun(only(prepared, "runs/pretrain-*")).attempts()[-1]
    assert (ended["event"], ended["status"]) == ("ended", "stopped")
    cli("run", prepared)
    assert final_weights(prepared) == final_weights(unbroken)
    assert losses(prepared) == losses(unbroken)


def test_a_run_whose_terminal_closes_stops_with_exit_75(server: TextServer, tmp_path: Path) -> None:
    """A real terminal, in which every later write fails."""
    sources = [{"url": f"{server.url}/book.txt", "sha256": hashlib.sha256(BOOK).hexdigest()}]
    folder = write_spec(tmp_path / "toy", book={"kind": "fetch", "sources": sources})
    server.pause_s = 0.2
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "continuum", "run", str(folder)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    wait_until(lambda: has_received(folder))
    os.close(ours)  # which hangs up
    assert process.wait(timeout=60) == 75
    ended = StageRun(only(folder, "runs/book-*")).attempts()[-1]
    assert (ended["event"], ended["status"]) == ("ended", "stopped")


@pytest.mark.slow
def test_nohup_is_respected(server: TextServer, tmp_path: Path) -> None:
    sources = [{"url": f"{server.url}/book.txt", "sha256": hashlib.sha256(BOOK).hexdigest()}]
    folder = write_spec(tmp_path / "toy", book={"kind": "fetch", "sources": sources})
    server.pause_s = 0.005
    command = ["nohup", sys.executable, "-m", "continuum", "run", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until(lambda: has_received(folder))
    close_terminal(process, folder)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert only(folder, "runs/book-*/output/*book.txt").read_bytes() == BOOK


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_a_stop_of_everything_while_it_starts_breaks_nothing(
    delay_s: float, unbroken: Path, prepared: Path, cli: Cli
) -> None:
    process = cli.start("run", prepared)
    wait_until(lambda: f'"pid": {process.pid},' in (prepared / "runs/.owner.json").read_text())
    time.sleep(delay_s)
    signal_all(process, prepared)
    _, told = process.communicate(timeout=60)
    assert process.returncode in (75, 0), told
    assert "Traceback" not in told
    cli("run", prepared)
    assert final_weights(prepared) == final_weights(unbroken)
