"""Small documents that many of these tests start from."""

from pathlib import Path
from textwrap import dedent

from continuum.experiment.experiment import Experiment
from continuum.loading.load import load_experiment

HEAD = "continuum: 1\nname: toy\n"
BOOKS = "stages:\n  books: {kind: fetch, sources: [{python: argparse.py}]}\n"
TRAINING = HEAD + dedent("""\
    stages:
      books: {kind: fetch, sources: [{python: argparse.py}]}
      tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 2048}
      tokens: {kind: tokenize, corpus: books, tokenizer: tokenizer, validation: none}
      pretrain:
        kind: pretrain
        model: pythia-14m
        data: tokens
        max_tokens: 1M
        sequence_length: 128
        global_batch_size: 16
        optimizer: {lr: 1e-3}
    """)


def write(path: Path, text: str) -> Path:
    """The path, with the text in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def training(folder: Path, *overrides: str) -> Experiment:
    """The experiment of `TRAINING`, written into a folder, with overrides."""
    return load_experiment(write(folder / "spec.yaml", TRAINING), overrides)
