"""Commands that only look never import torch and never ask the network."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum.cli import COMMANDS
from continuum.execution.launchers.local import PRELOAD, PRELOAD_VARIABLE
from continuum.stages.convert import Convert
from continuum.stages.training_stage import TrainingStage
from tests.commands import Cli

PROGRAM = """
import json, socket, sys

def refuse(*arguments, **keywords):
    raise AssertionError("the network was asked")

socket.socket.connect = refuse
from continuum.cli import main
heavy = {"torch", "lightning", "litgpt", "litdata", "tokenizers", "huggingface_hub", "numpy"}
for command in json.loads(sys.argv[1]):
    sys.argv = ["continuum", *command]
    try:
        main()
    except SystemExit as leaving:
        assert leaving.code in (0, None), (command, leaving.code)
    loaded = heavy & set(sys.modules)
    assert not loaded, (command, loaded)
"""


def test_commands_that_only_look_are_light(experiment: Callable[..., Path]) -> None:
    """All in one process: the first that imports something heavy is named."""
    path, finished = str(experiment()), str(experiment("finished", only=("prose",)))
    Cli()("run", finished)
    commands = [
        ["--help"],
        *([command, path] for command in ("validate", "render", "plan", "status", "stop")),
        ["diff", path, finished],
        ["compare", path, finished, "--all"],
        ["lineage", finished],
        ["report", finished],
        ["memory", "pythia-160m"],
        ["schema"],
        ["explain"],
        ["explain", "lr"],
        ["init", str(Path(path).parent / "new"), "--template", "continue"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pydoc_data/topics.py" in done.stdout


def test_a_reader_that_leaves_is_no_traceback(experiment: Callable[..., Path]) -> None:
    path = experiment()
    command = f"{sys.executable} -m continuum plan {path} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_help_of_all_commands_is_that_of_each() -> None:
    """The list is written by hand, so that none of them is imported for it."""
    for name, summary in COMMANDS.items():
        function = getattr(importlib.import_module(f"continuum.cli.{name}"), name)
        assert function.__doc__.splitlines()[0] == summary, name


@pytest.mark.parametrize(
    ("module", "loaded"),
    [
        ("", set()),
        (Convert.preload, {"torch"}),
        (TrainingStage.preload, {"torch", "lightning", "litgpt"}),
    ],
    ids=["nothing that computes", "weights", "training"],
)
def test_workers_start_with_what_the_stages_need(module: str, loaded: set[str]) -> None:
    names = ("torch", "lightning", "litgpt")
    program = f"import sys, {PRELOAD}\nprint(*[name for name in {names} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, PRELOAD_VARIABLE: module},
    )
    assert set(done.stdout.split()) == loaded
    assert done.stderr == ""


def test_the_help_is_printed_without_what_commands_need() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "continuum", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "validate" in done.stdout
    assert not re.search(r"\b(pydantic|yaml|continuum\.experiment)\b", done.stderr)
