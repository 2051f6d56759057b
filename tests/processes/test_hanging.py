"""A process that hangs in training: the others wait as long as the runtime says, and tell where."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Cli, wait_until
from tests.processes import hang_in_step, slow_disk
from tests.processes.pairs import ranks_of, spec
from tests.processes.test_shards import torchrun
from tests.training.samples import tokenizer_folder

pytestmark = pytest.mark.slow  # each waits for a timeout


def test_the_ranks_that_waited_and_their_step_are_reported() -> None:
    told = {line["rank"]: line for line in torchrun(2, hang_in_step.__file__, "3s")}
    assert told[0]["told"].startswith(
        "rank 0 of 2, in step 2: a collective operation timed out after 3 s waiting for another"
    )
    assert "raise runtime.collective_timeout" in told[0]["told"]
    assert "Connection closed by peer" in told[1]["lost"]  # and leaves the word to the other


def test_a_run_whose_rank_is_frozen_fails_and_names_it(
    prepare: Callable[..., Path], cli: Cli
) -> None:
    text = spec("ddp", steps=4000)
    assert "micro_batch_size: 2" in text
    folder = prepare(
        text.replace("micro_batch_size: 2", "micro_batch_size: 2\n      collective_timeout: 4s")
    )
    process: subprocess.Popen[str] = cli.start("run", folder)
    wait_until(lambda: bool(list(folder.glob("runs/pretrain-*/checkpoints/step-*"))))
    begun_at = time.monotonic()
    os.kill(ranks_of(folder)[-1], signal.SIGSTOP)
    _, told = process.communicate(timeout=90)
    assert process.returncode == 5, told
    assert time.monotonic() - begun_at < 60
    one_line = " ".join(told.split())
    assert "pretrain: hung after step" in one_line
    assert "with no output from rank 1: rank 0 of 2, in step" in one_line
    assert "a collective operation timed out after 4 s" in one_line
    resolved = next(folder.glob("runs/pretrain-*/stage.json"))
    runtime = json.loads(resolved.read_text())["recipe"]["runtime"]
    assert runtime["collective_timeout"] == 4.0


def test_a_slow_disk_of_the_one_that_writes_is_no_hang(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "pretrain-000000000000"
    run.mkdir(parents=True)
    told = torchrun(2, slow_disk.__file__, run, tokenizer_folder(tmp_path))
    assert [line["saved"] for line in told] == [[1, 2], [1, 2]]
