"""The training that is measured: pythia-14m on made text, for continuum and for LitGPT alike."""

from pathlib import Path
from pydoc_data import topics
from typing import Any

import yaml

from tests.benchmarks.commands import continuum, measure

MODEL = "pythia-14m"
"""Its vocabulary is 50,304 tokens, whatever the tokenizer uses of them."""
SEQUENCE_LENGTH = 256
GLOBAL_BATCH = 16
MICRO_BATCH = 4
EVALUATION_BATCHES = 4
TOKENS_PER_STEP = SEQUENCE_LENGTH * GLOBAL_BATCH
STAGES: dict[str, Any] = {
    "books": {"kind": "fetch", "sources": [{"python": "pydoc_data/topics.py"}]},
    "tokenizer": {"kind": "train_tokenizer", "corpus": "books", "vocab_size": 512},
    "tokens": {
        "kind": "tokenize",
        "corpus": "books",
        "tokenizer": "tokenizer",
        "validation": {"fraction": 0.1},
    },
}
PRETRAIN: dict[str, Any] = {
    "kind": "pretrain",
    "model": MODEL,
    "data": "tokens",
    "max_steps": 1000,
    "sequence_length": SEQUENCE_LENGTH,
    "global_batch_size": GLOBAL_BATCH,
    "precision": "32-true",
    "optimizer": {"lr": 3e-4, "weight_decay": 0.1},
    "max_norm": 1.0,
    "evaluate": {"every": 1, "batches": EVALUATION_BATCHES},
    "runtime": {
        "accelerator": "cpu",
        "micro_batch_size": MICRO_BATCH,
        "checkpoint": {"every": 1000},
    },
}


def write_training(folder: Path) -> Path:
    """An experiment folder whose tokens are made and whose training is still to come.

    The tokens are made by another process, which keeps their memory out of the figures.
    """
    folder.mkdir(parents=True)
    _write(folder, STAGES)
    measure(continuum("run", folder))
    _write(folder, {**STAGES, "pretrain": PRETRAIN})
    return folder


def write_texts(folder: Path) -> Path:
    """The same text as LitGPT's `TextFiles` wants it: folders for training and validation."""
    text = Path(topics.__file__).read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    for split, part in (("train", text[:cut]), ("validation", text[cut:])):
        (folder / split).mkdir(parents=True)
        (folder / split / "topics.txt").write_text(part, encoding="utf-8")
    return folder


def tokenizer_of(folder: Path) -> Path:
    """The experiment's trained tokenizer."""
    (found,) = folder.glob("runs/tokenizer-*/output")
    return found


def _write(folder: Path, stages: dict[str, Any]) -> None:
    document = {"continuum": 1, "name": "speed", "seed": 1, "stages": stages}
    text = yaml.safe_dump(document, sort_keys=False)
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
