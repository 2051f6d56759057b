"""The same chain for continuum, DVC and Snakemake: each stage reads what the one before made."""

import subprocess
from pathlib import Path

HEAD = """\
continuum: 1
name: chain
stages:
  books: {kind: fetch, sources: [{path: a.txt}]}
  tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 300}
  tokens: {kind: tokenize, corpus: books, tokenizer: tokenizer, validation: {fraction: 0.1}}
  s0:
    kind: pretrain
    model: {name: pythia-14m, n_layer: 1, n_embd: 16, n_head: 2, vocab_size: 512}
    data: tokens
    max_steps: 2
    sequence_length: 16
    global_batch_size: 2
    optimizer: {lr: 1e-3}
    runtime: {micro_batch_size: 2, checkpoint: {every: 2}}
"""
NUM_FIRST = 4
"""Stages of the head."""


def write_chain(folder: Path, num_stages: int) -> Path:
    """A chain of `resume` stages after a pretraining; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.txt").write_text("All happy families are alike. " * 20_000, encoding="utf-8")
    lines = [HEAD]
    for number in range(1, num_stages - NUM_FIRST + 1):
        lines.append(
            f"  s{number}:\n    kind: resume\n    from: s{number - 1}\n"
            f"    max_steps: {2 + 2 * number}\n    schedule: {{kind: constant}}\n"
        )
    (folder / "experiment.yaml").write_text("".join(lines), encoding="utf-8")
    return folder


def write_dvc_chain(folder: Path, num_stages: int, dvc: Path) -> Path:
    """The chain as `cp` commands in dvc.yaml, in a Git repository with DVC set up.

    The outputs lie there as an unfinished run leaves them: `dvc repro --dry` gives up at a stage
    whose input is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_stages + 1):
        (folder / f"s{number}.txt").write_text("All happy families are alike.\n", encoding="utf-8")
    stages = "".join(
        f"  s{number}:\n    cmd: cp s{number - 1}.txt s{number}.txt\n"
        f"    deps: [s{number - 1}.txt]\n    outs: [s{number}.txt]\n"
        for number in range(1, num_stages + 1)
    )
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}", encoding="utf-8")
    for command in (["git", "init", "-q"], [str(dvc), "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def write_snakemake_chain(folder: Path, num_stages: int) -> Path:
    """The chain as `cp` rules in a Snakefile."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s0.txt").write_text("All happy families are alike.\n", encoding="utf-8")
    rules = "".join(
        f'rule s{number}:\n    input: "s{number - 1}.txt"\n    output: "s{number}.txt"\n'
        '    shell: "cp {input} {output}"\n'
        for number in range(1, num_stages + 1)
    )
    # Snakemake follows a chain by recursion, and gives up after some 500 rules.
    head = "import sys\nsys.setrecursionlimit(100_000)\n"
    last = f'rule all:\n    input: "s{num_stages}.txt"\n'
    (folder / "Snakefile").write_text(head + last + rules, encoding="utf-8")
    return folder
