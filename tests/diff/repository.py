"""A Git repository with one experiment, for diffs between its commits."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.commands import Cli

BASE = """\
optimizer: &adam {name: AdamW, lr: 1e-3}
"""
SPEC = """\
continuum: 1
name: studied
seed: 1
vars: {rate: 1e-3}
stages:
  books: {kind: fetch, sources: [{path: data/*.txt}]}
  tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 300}
  tokens: {kind: tokenize, corpus: books, tokenizer: tokenizer, validation: {fraction: 0.1}}
  pretrain:
    kind: pretrain
    model: {name: pythia-14m, n_layer: 2, n_embd: 32, n_head: 2, vocab_size: 512}
    data: tokens
    max_steps: 20
    sequence_length: 32
    global_batch_size: 8
    optimizer: {lr: "${rate}"}
  longer: {kind: resume, from: pretrain, max_steps: 30, schedule: {kind: linear, to: 0}}
  weights: {kind: convert, from: longer}
"""
LOCK = """\
continuum_lock: 1
experiment: studied
versions: {torch: 2.14.1}
stages:
  pretrain:
    fingerprint: aaaa
    artifact: bbbb
    pins: {EleutherAI/pythia-14m@main: a111aaaa1111aaaa}
    metrics: {val_loss: 4.5}
"""


@dataclass(frozen=True)
class Repository:
    """A Git repository with one experiment."""

    path: Path
    cli: Cli

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a change")

    @property
    def folder(self) -> Path:
        return self.path / "studies" / "one"

    @property
    def spec(self) -> Path:
        return self.folder / "experiment.yaml"

    def edit(self, old: str, new: str) -> None:
        text = self.spec.read_text()
        assert old in text
        self.spec.write_text(text.replace(old, new))

    def diff(self, *options: str, before: str = "HEAD~1", after: str = "HEAD") -> str:
        where = "studies/one/experiment.yaml"
        done = self.cli("diff", f"{before}:{where}", f"{after}:{where}", *options)
        return done.stdout

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.diff("--json"))
        return document
