"""Random experiments in random states: an experiment folder, and what may befall it."""

import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from continuum.planning.lockfile import read_lockfile
from continuum.planning.plan import Plan, PlannedStage
from tests.planning.carrying_out import Interruption, plan_of
from tests.servers.texts import TextServer

WORDS = ("the", "model", "reads", "a", "text", "and", "learns", "from", "it", "again")
CORPORA = ("a.txt", "b.txt")
NUM_TEXTS = 3
"""Versions of a corpus, all of one length, so that only their bytes tell them apart."""
FIELDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "fetch": {"description": ("one", "two")},
    "train_tokenizer": {"vocab_size": (270, 280), "special_tokens": ([], ["<|pad|>"])},
    "tokenize": {"document": ("bos", "both"), "validation": ({"fraction": 0.2}, "none")},
    "pretrain": {
        "optimizer": ({"lr": 1e-3}, {"lr": 2e-3, "betas": [0.9, 0.95]}),
        "sequence_length": (16, 12),
        "max_steps": (8, 7),
    },
    "resume": {
        "max_steps": (12, 11),
        "schedule": ({"kind": "constant"}, {"kind": "linear", "to": 0}),
    },
    "convert": {"description": ("weights alone",)},
}
"""Values that fields take on and give up again; `tokenize` without validation blocks a training."""
TINY = {"name": "pythia-14m", "n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 320}
RUNTIMES = (
    {"micro_batch_size": 2, "checkpoint": {"every": 2}},
    {"micro_batch_size": 2, "checkpoint": {"every": 3, "keep_last": 4}, "log_every": 2},
)


@dataclass
class Turn:
    """What befell the folder, and how it is run next."""

    rerun: set[str] = field(default_factory=set)
    interruption: Interruption | None = None
    touched: set[str] | None = field(default_factory=set)
    """Stages that may be made again, with all below them; None when any may."""


@dataclass
class World:
    """One experiment folder and its history."""

    folder: Path
    rng: random.Random
    texts: TextServer
    document: dict[str, Any] = field(default_factory=dict)
    past: list[dict[str, Any]] = field(default_factory=list)
    """Earlier documents, to go back to."""
    log: list[str] = field(default_factory=list)
    """What happened, to be read when a case fails."""

    def begin(self, *, trains: bool) -> None:
        """Write the first spec and the corpora."""
        self.document = first_document(self.texts.url, trains=trains)
        for name in CORPORA:
            self.write_corpus(name, 0)
        self.change_web_text()
        self.write()

    def write(self) -> None:
        """Write experiment.yaml."""
        text = yaml.safe_dump(self.document, sort_keys=False)
        (self.folder / "experiment.yaml").write_text(text, encoding="utf-8")

    @property
    def stages(self) -> dict[str, Any]:
        stages: dict[str, Any] = self.document["stages"]
        return stages

    def write_corpus(self, name: str, version: int) -> None:
        (self.folder / name).write_bytes(text_of(name, version))

    def change_web_text(self) -> None:
        """The web has another text from now on."""
        self.texts.files["/web.txt"] = text_of("web", self.rng.randrange(NUM_TEXTS))

    def serve_what_is_locked(self) -> None:
        """While the lock pins a text, the web has it still: other bytes would be an error."""
        lock = read_lockfile(self.folder / "continuum.lock")
        pinned = set(lock.pins("web").values()) if lock is not None else set()
        for version in range(NUM_TEXTS):
            text = text_of("web", version)
            if hashlib.sha256(text).hexdigest() in pinned:
                self.texts.files["/web.txt"] = text

    def plan(self) -> Plan:
        return plan_of(self.folder)

    def begun(self) -> list[PlannedStage]:
        """The stages that have a run folder now."""
        return [planned for planned in self.plan() if planned.run.is_begun]

    def below(self, names: set[str]) -> set[str]:
        """These stages and all that hang on them."""
        found = set(names)
        for planned in self.plan():
            if any(ref.stage in found for ref in planned.refs):
                found.add(planned.name)
        return found


def first_document(url: str, *, trains: bool) -> dict[str, Any]:
    """Two or three corpora, a tokenizer, datasets and, if asked for, a small training."""
    stages: dict[str, Any] = {
        "book": {"kind": "fetch", "sources": [{"path": "a.txt"}]},
        "web": {"kind": "fetch", "sources": [{"url": f"{url}/web.txt"}, {"path": "b.txt"}]},
        "tokenizer": {"kind": "train_tokenizer", "corpus": "book", "vocab_size": 270},
        "book_tokens": _tokenize("book"),
        "web_tokens": _tokenize("web"),
    }
    if trains:
        stages |= {
            "pretrain": {
                "kind": "pretrain",
                "model": TINY,
                "data": {"book_tokens": 0.75, "web_tokens": 0.25},
                "max_steps": 8,
                "sequence_length": 16,
                "global_batch_size": 2,
                "optimizer": {"lr": 1e-3},
                "runtime": RUNTIMES[0],
            },
            "longer": {
                "kind": "resume",
                "from": "pretrain",
                "max_steps": 12,
                "schedule": {"kind": "constant"},
            },
            "weights": {"kind": "convert", "from": "longer"},
        }
    return {"continuum": 1, "name": "world", "seed": 1, "stages": stages}


def text_of(name: str, version: int) -> bytes:
    """A corpus of a few kilobytes; its versions have the same words in another order."""
    words = list(WORDS) * 100
    random.Random(f"{name} {version}").shuffle(words)
    lines = (" ".join(words[start : start + 12]) for start in range(0, len(words), 12))
    return "\n".join(lines).encode()


def _tokenize(corpus: str) -> dict[str, Any]:
    validation = {"fraction": 0.2}
    return {
        "kind": "tokenize",
        "corpus": corpus,
        "tokenizer": "tokenizer",
        "validation": validation,
    }
