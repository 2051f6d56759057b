"""The training that is measured: pythia-14m on Python's help, for continuum and LitGPT alike."""

import json
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Training:
    """What continuum and LitGPT train alike; a process that trains gets it as JSON."""

    model: str = MODEL
    sequence_length: int = SEQUENCE_LENGTH
    global_batch: int = GLOBAL_BATCH
    micro_batch: int = MICRO_BATCH
    precision: str = "32-true"
    accelerator: str = "cpu"
    log_every: int = 1
    """Optimizer steps in a turn."""
    evaluation_batches: int | None = EVALUATION_BATCHES
    """In an evaluation after each step; None for no evaluations."""
    copies: int = 1
    """How often the text of about 0.7 MB is repeated."""

    @property
    def resolved_precision(self) -> str:
        """What `auto` becomes on a GPU with bf16 units; LitGPT knows no `auto`."""
        if self.precision != "auto":
            return self.precision
        return "bf16-mixed" if self.accelerator == "cuda" else "32-true"

    @property
    def tokens_per_turn(self) -> int:
        """Of the steps between two rows of the log."""
        return self.sequence_length * self.global_batch * self.log_every

    def as_json(self) -> str:
        """For the command line of a process that trains."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "Training":
        """The reverse."""
        return cls(**json.loads(text))


ON_CPU = Training()
OPTIMIZER = {"lr": 3e-4, "weight_decay": 0.1}
STAGES: dict[str, Any] = {
    "books": {"kind": "fetch", "sources": [{"path": "topics.txt"}]},
    "tokenizer": {"kind": "train_tokenizer", "corpus": "books", "vocab_size": 512},
    "tokens": {
        "kind": "tokenize",
        "corpus": "books",
        "tokenizer": "tokenizer",
        "validation": {"fraction": 0.1},
    },
}


def write_training(folder: Path, training: Training = ON_CPU) -> Path:
    """An experiment folder whose tokens are made and whose training is still to come.

    The tokens are made by another process, which keeps their memory out of the figures.
    """
    folder.mkdir(parents=True)
    (folder / "topics.txt").write_text(_text(training), encoding="utf-8")
    _write(folder, STAGES)
    measure(continuum("run", folder))
    _write(folder, {**STAGES, "pretrain": _pretrain(training)})
    return folder


def write_texts(folder: Path, training: Training = ON_CPU) -> Path:
    """The same text as LitGPT's `TextFiles` wants it: folders for training and validation."""
    text = _text(training)
    cut = len(text) * 9 // 10
    for split, part in (("train", text[:cut]), ("validation", text[cut:])):
        (folder / split).mkdir(parents=True)
        (folder / split / "topics.txt").write_text(part, encoding="utf-8")
    return folder


def _text(training: Training) -> str:
    return Path(topics.__file__).read_text(encoding="utf-8") * training.copies


def _pretrain(training: Training) -> dict[str, Any]:
    batches = training.evaluation_batches
    return {
        "kind": "pretrain",
        "model": training.model,
        "data": "tokens",
        "max_steps": 1000 * training.log_every,
        "sequence_length": training.sequence_length,
        "global_batch_size": training.global_batch,
        "precision": training.precision,
        "optimizer": OPTIMIZER,
        "max_norm": 1.0,
        "evaluate": batches and {"every": 1, "sequences": batches * training.micro_batch},
        "runtime": {
            "accelerator": training.accelerator,
            "micro_batch_size": training.micro_batch,
            "log_every": training.log_every,
            "checkpoint": {"every": 1000 * training.log_every},
        },
    }


def tokenizer_of(folder: Path) -> Path:
    """The experiment's trained tokenizer."""
    (found,) = folder.glob("runs/tokenizer-*/output")
    return found


def _write(folder: Path, stages: dict[str, Any]) -> None:
    document = {"continuum": 1, "name": "speed", "seed": 1, "stages": stages}
    text = yaml.safe_dump(document, sort_keys=False)
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
