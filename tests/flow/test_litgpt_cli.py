"""LitGPT's own command line takes what continuum makes, as it would take its own files."""

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from continuum.training.weights import load_weights
from tests.commands import only
from tests.experiments import small_flow

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""The models are tiny: on a busy machine more threads only wait for each other."""
TIMEOUT_S = 240.0
PROMPT = "The for statement"
NUM_IDS = 512
ENVIRONMENT = {
    **ONE_THREAD,
    "TORCHDYNAMO_DISABLE": "1",  # Compiling takes longer than all the rest, and has no option.
    "HF_HUB_OFFLINE": "1",
}


@pytest.fixture(scope="module")
def outputs(run_once: Callable[[str], Path]) -> dict[str, Path]:
    """What each stage of the small flow made; only read."""
    found = run_once(small_flow()).glob("runs/*/output")
    return {path.parent.name.rpartition("-")[0]: path for path in found}


def litgpt(folder: Path, *arguments: object) -> str:
    """What `litgpt` prints, run in `folder`; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "litgpt", *(str(argument) for argument in arguments)],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pretrain(folder: Path, tokens: Path, *arguments: object, sequence_length: int) -> list[float]:
    """The loss of each step of `litgpt pretrain` on our tokens: 4 steps of 8 sequences."""
    settings = {
        "data": "LitData",
        "data.data_path": tokens,
        "data.split_names": "[train, validation]",
        "data.num_workers": 0,
        "train.max_tokens": 4 * 8 * sequence_length,
        "train.global_batch_size": 8,
        "train.micro_batch_size": 4,
        "train.max_seq_length": sequence_length,
        "train.lr_warmup_steps": 1,
        "train.save_interval": 100,
        "eval.interval": 100,
        "eval.max_iters": 2,
        "precision": "32-true",
        "devices": 1,
        "tokenizer_dir": tokens / "tokenizer",
        "logger_name": "csv",
        "out_dir": folder / "out",
    }
    words = [str(word) for key, value in settings.items() for word in (f"--{key}", value)]
    printed = litgpt(folder, "pretrain", "pythia-14m", *words, *arguments)
    assert "Final evaluation | val loss" in printed
    rows = only(folder, "out/logs/**/metrics.csv").read_text(encoding="utf-8").splitlines()
    return [float(row["loss"]) for row in csv.DictReader(rows) if row["loss"]]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["weights", "retrain"])
def test_litgpt_validates_the_checkpoint(
    outputs: dict[str, Path], tmp_path: Path, stage: str
) -> None:
    assert "All validation checks passed" in litgpt(tmp_path, "validate", outputs[stage])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["weights", "retrain"])
def test_litgpt_generates_with_the_checkpoint(
    outputs: dict[str, Path], tmp_path: Path, stage: str
) -> None:
    options = ("--prompt", PROMPT, "--max_new_tokens", 8, "--precision", "32-true")
    printed = litgpt(tmp_path, "generate", outputs[stage], *options)
    assert len(printed[printed.rindex(PROMPT) :].strip()) > len(PROMPT)


def test_litgpt_converts_a_training_checkpoint_to_the_same_tensors(
    outputs: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = only(outputs["longer"].parent, "checkpoints/step-00000030")
    litgpt(tmp_path, "convert_pretrained_checkpoint", checkpoint, tmp_path / "converted")
    theirs, ours = load_weights(tmp_path / "converted"), load_weights(outputs["weights"])
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    made = (tmp_path / "converted", outputs["weights"])
    assert len({tuple(sorted(path.name for path in folder.iterdir())) for folder in made}) == 1


@pytest.mark.slow
def test_litgpt_pretrains_on_the_tokens(outputs: dict[str, Path], tmp_path: Path) -> None:
    losses = pretrain(tmp_path, outputs["tokens"], sequence_length=64)
    assert len(losses) == 4
    # A model that knows nothing of its 50,304 ids yet.
    assert losses[0] == pytest.approx(math.log(50_304), abs=0.5)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.slow
def test_litgpt_goes_on_with_the_converted_weights(
    outputs: dict[str, Path], tmp_path: Path
) -> None:
    config = yaml.safe_load((outputs["weights"] / "model_config.yaml").read_text(encoding="utf-8"))
    start = ("--initial_checkpoint_dir", outputs["weights"], "--model_config", json.dumps(config))
    losses = pretrain(tmp_path, outputs["tokens"], *start, sequence_length=32)
    assert len(losses) == 4
    assert losses[0] < math.log(NUM_IDS) - 0.5
