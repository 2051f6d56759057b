"""kind: evaluate, through the command line: its numbers, and what it refuses before it runs."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional

from continuum.text.tokenizer import load_tokenizer
from continuum.training.litgpt import GPT, Config
from continuum.training.weights import load_weights
from tests.commands import Cli, only
from tests.experiments import small_flow

LENGTH = 32
ON = ["tokens", "code_tokens", "code"]
STAGES: dict[str, Any] = {
    "whole": {"kind": "evaluate", "models": ["pretrain@step-10", "weights", "retrain"], "on": ON},
    "blocks": {"kind": "evaluate", "models": "pretrain", "on": "tokens", "sequences": 8},
}


@dataclass(frozen=True)
class Evaluated:
    """A finished small flow with evaluations."""

    folder: Path

    def scores(self, stage: str) -> dict[tuple[str, str], dict[str, Any]]:
        """The rows of a stage's file, by model and text."""
        path = only(self.folder, f"runs/{stage}-*/output/scores.json")
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {(row["model"], row["text"]): row for row in rows}

    def run(self, stage: str) -> Path:
        return only(self.folder, f"runs/{stage}-*")


def with_stages(spec: str, stages: dict[str, Any]) -> str:
    document = yaml.safe_load(spec)
    document["stages"] |= stages
    return yaml.safe_dump(document, sort_keys=False)


@pytest.fixture(scope="module")
def evaluated(run_once: Callable[[str], Path]) -> Evaluated:
    return Evaluated(run_once(with_stages(small_flow(), STAGES)))


@pytest.fixture
def folder(run_once: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the finished small flow, to add stages to."""
    return Path(shutil.copytree(run_once(small_flow()), tmp_path / "toy"))


def read_tokens(folder: Path) -> list[int]:
    """The ids in a folder of chunks: each has a header of 4-byte numbers, two more than items."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    parts = []
    for chunk in index["chunks"]:
        content = (folder / chunk["filename"]).read_bytes()
        parts.append(np.frombuffer(content[4 * (chunk["chunk_size"] + 2) :], dtype=np.uint16))
    return [int(it) for it in np.concatenate(parts)]


def plain_losses(model_folder: Path, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's loss and whether it was the most likely, by LitGPT's model and torch."""
    model = GPT(Config.from_file(model_folder / "model_config.yaml")).eval()
    model.load_state_dict(load_weights(model_folder))
    losses, hits = [], []
    for start in range(0, len(ids) - 1, LENGTH):
        window = torch.tensor(ids[start : start + LENGTH + 1])[None]
        with torch.no_grad():
            logits = model(window[:, :-1])[0]
        losses.append(functional.cross_entropy(logits, window[0, 1:], reduction="none"))
        hits.append(logits.argmax(-1) == window[0, 1:])
    return torch.cat(losses).double(), torch.cat(hits)


@pytest.mark.parametrize("text", ["tokens", "code_tokens"])
def test_every_token_but_the_first_is_scored_as_by_a_plain_script(
    evaluated: Evaluated, text: str
) -> None:
    ids = read_tokens(evaluated.run(text) / "output" / "validation")
    losses, hits = plain_losses(evaluated.run("weights") / "output", ids)
    score = evaluated.scores("whole")["weights", text]
    assert score["num_tokens"] == len(ids) - 1 == len(losses)
    assert score["loss"] == pytest.approx(losses.mean().item(), abs=1e-6)
    assert score["accuracy"] == pytest.approx(hits.double().mean().item(), abs=1e-9)
    tokenizer = load_tokenizer(evaluated.run("tokenizer") / "output")
    size = sum(len(tokenizer.bytes_of(it)) for it in ids[1:] if it not in tokenizer.special_ids)
    assert score["num_bytes"] == size


def test_the_standard_error_is_that_of_the_mean_over_sequences(evaluated: Evaluated) -> None:
    ids = read_tokens(evaluated.run("tokens") / "output" / "validation")
    losses, _ = plain_losses(evaluated.run("weights") / "output", ids)
    whole = losses[: len(losses) // LENGTH * LENGTH]
    means = whole.view(-1, LENGTH).mean(1)
    expected = means.std().item() / math.sqrt(len(means))  # the last, shorter sequence apart
    score = evaluated.scores("whole")["weights", "tokens"]
    assert score["standard_error"] == pytest.approx(expected, rel=0.02)


def test_a_count_of_sequences_gives_the_loss_that_training_logged(evaluated: Evaluated) -> None:
    rows = (evaluated.run("pretrain") / "metrics.jsonl").read_text().splitlines()
    logged = [row["val_loss"] for row in map(json.loads, rows) if "val_loss" in row]
    score = evaluated.scores("blocks")["pretrain", "tokens"]
    assert score["num_sequences"] == 8
    assert score["loss"] == pytest.approx(logged[-1], abs=1e-6)


def test_a_corpus_is_evaluated_whole_in_the_tokens_of_the_model(evaluated: Evaluated) -> None:
    score = evaluated.scores("whole")["retrain", "code"]
    files = (evaluated.run("code") / "output").rglob("*.py")
    assert score["num_bytes"] == sum(len(file.read_bytes()) for file in files)
    assert score["split"] == "all"


def test_what_is_learned_and_forgotten_shows_in_the_matrix(evaluated: Evaluated) -> None:
    scores = evaluated.scores("whole")
    assert scores["retrain", "code_tokens"]["loss"] < scores["weights", "code_tokens"]["loss"]
    assert scores["weights", "tokens"]["loss"] < scores["pretrain@step-10", "tokens"]["loss"]


def test_an_evaluation_is_reused_and_in_the_lineage(evaluated: Evaluated, cli: Cli) -> None:
    shown = cli("run", evaluated.folder, "--plain").stdout
    assert "3 models on 3 texts" in shown
    assert "1 model on 1 text, best pretrain:" in shown
    assert "done" not in shown
    assert "weights:" in shown, "an evaluation does not continue the weights"
    nodes = json.loads(cli("lineage", evaluated.folder, "--json").stdout)
    assert "evaluation" in json.dumps(nodes)


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"sequence_length": 4096}, 4, "sequence_length 4,096 exceeds the block_size 512"),
        ({"tokens": 100, "sequences": 3}, 3, "'tokens' and 'sequences' are mutually exclusive"),
        ({"models": ["weights", "weights"]}, 3, "'weights' is listed twice; remove one"),
        ({"models": "tokens"}, 3, "models must refer to a checkpoint, but stage 'tokens'"),
        (
            {"on": "weights"},
            3,
            "on must refer to a corpus or tokenized dataset, but stage 'weights' outputs model",
        ),
        ({"on": "other_tokens"}, 4, "dataset 'other_tokens' uses another tokenizer than the model"),
        ({"on": "no_validation"}, 4, "dataset 'no_validation' has no validation split"),
        (
            {"precision": "16-mixed", "runtime": {"accelerator": "cpu"}},
            4,
            "precision 16-mixed needs a CUDA device",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_starts(
    folder: Path, cli: Cli, changes: dict[str, Any], code: int, message: str
) -> None:
    spec = folder / "experiment.yaml"
    more: dict[str, dict[str, Any]] = {
        "other": {"kind": "train_tokenizer", "corpus": "code", "vocab_size": 300},
        "other_tokens": {
            "kind": "tokenize",
            "corpus": "code",
            "tokenizer": "other",
            "validation": {"fraction": 0.1},
        },
        "no_validation": {
            "kind": "tokenize",
            "corpus": "code",
            "tokenizer": "tokenizer",
            "validation": "none",
        },
        "scores": {"kind": "evaluate", "models": "weights", "on": "tokens", **changes},
    }
    on = more["scores"]["on"]
    wanted = {"scores": ["scores"], "other_tokens": ["other", "other_tokens", "scores"]}
    names = wanted.get(on, [on, "scores"] if on in more else ["scores"])
    document = yaml.safe_load(spec.read_text(encoding="utf-8"))
    if on == "other_tokens":  # exists before the evaluation is planned
        document["stages"] |= {name: more[name] for name in names[:-1]}
        spec.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        cli("run", spec, "--plain")
    document["stages"] |= {name: more[name] for name in names}
    spec.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    refused = cli("run", spec, "--plain", expect=code).stderr
    assert message in refused
    assert "started" not in refused.replace("nothing was started", "")


@pytest.mark.slow
def test_several_processes_give_the_scores_of_one(
    evaluated: Evaluated, folder: Path, cli: Cli
) -> None:
    two = {name: {**stage, "runtime": {"devices": 2}} for name, stage in STAGES.items()}
    spec = folder / "experiment.yaml"
    spec.write_text(with_stages(small_flow(), two), encoding="utf-8")
    cli("run", spec, "--plain")
    both = Evaluated(folder)
    for stage in STAGES:
        for pair, score in evaluated.scores(stage).items():
            other = both.scores(stage)[pair]
            assert other.pop("loss") == pytest.approx(score.pop("loss"), abs=1e-9)
            assert other == score
