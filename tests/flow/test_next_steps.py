"""After a run: where the weights are, and commands that work when they are pasted."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Cli, only
from tests.experiments import TOY_MODEL, small_flow
from tests.flow.test_litgpt_cli import ENVIRONMENT

SPEC = small_flow()
SHORT = small_flow(pretrain__model=TOY_MODEL | {"block_size": 40})


@pytest.fixture
def finished(run_once: Callable[[str], Path], tmp_path: Path) -> Path:
    folder = tmp_path / "my toy"
    shutil.copytree(run_once(SPEC), folder)
    return folder


def lines(printed: str) -> dict[str, str]:
    found = (line.split(":", 1) for line in printed.splitlines() if ":  " in line[:12])
    return {word: text.strip() for word, text in found}


def test_a_run_ends_with_its_weights_and_what_to_do_with_them(
    finished: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.parent)
    printed = cli("run", "my toy").stdout
    output = only(Path("my toy"), "runs/retrain-*/output")
    steps = lines(printed)
    assert list(steps) == ["weights", "generate", "ancestry"]
    assert steps["weights"] == str(output)
    command = shlex.split(steps["generate"])
    assert command[-4:] == ["generate", str(output), "--prompt", "Once upon a time"]
    program, *words = shlex.split(steps["ancestry"])
    assert program == "continuum"
    assert "retrain" in cli(*words).stdout


@pytest.mark.slow
def test_quiet_json_and_a_run_that_failed_name_no_next_step(finished: Path, cli: Cli) -> None:
    assert not lines(cli("-q", "run", finished).stdout)
    json.loads(cli("run", finished, "--json").stdout)
    spec = finished / "experiment.yaml"
    spec.write_text(spec.read_text().replace("python: argparse.py", "url: http://127.0.0.1:1/x.py"))
    assert not lines(cli("run", finished, expect=5).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [SPEC, SHORT], ids=["model", "short-context"])
def test_the_command_to_generate_works_when_it_is_pasted(
    spec: str, run_once: Callable[[str], Path], cli: Cli
) -> None:
    folder = run_once(spec)
    command = lines(cli("run", folder).stdout)["generate"]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Once upon a time" in done.stdout
