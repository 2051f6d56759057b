"""Training as `continuum run` does it against `litgpt pretrain`: speed, memory, evaluation."""

import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.pacing import Turn, paced, take_turns
from tests.benchmarks.rows import Row, Setting, benchmark
from tests.benchmarks.training_spec import (
    EVALUATION_BATCHES,
    MODEL,
    ON_CPU,
    tokenizer_of,
    write_texts,
    write_training,
)

WARM_UP = 2
"""Turns that do not count: the first step and the first evaluation, which are compiled."""
LITGPT = "litgpt.pretrain.main"
SPAWNED = (
    "LitGPT spawns its loader's workers each time; where it need not tokenize, it forks them, and "
    "0.53 to 0.79 was seen: the products of matrices are most of it then"
)


@benchmark("training")
def bench_training(setting: Setting) -> Sequence[Row]:
    """Steps and evaluations of the same training, in turns; then what each process has taken."""
    folder = write_training(setting.work_dir / "ours")
    tokenizer = tokenizer_of(folder)
    litgpts = (write_texts(setting.work_dir / "texts"), tokenizer, ON_CPU.as_json())
    compiles = shutil.which(os.environ.get("CXX", "g++")) is not None
    if compiles and not setting.quick:
        # With texts of its own: a process that finds them tokenized forks its loaders' workers.
        texts = write_texts(setting.work_dir / "warm")
        warm = (texts, tokenizer, ON_CPU.as_json())
        _warm_compile_cache(warm, setting.work_dir / "warm.txt")
    environment = {} if compiles else {"TORCHDYNAMO_DISABLE": "1"}
    errors = setting.work_dir / "litgpt.txt"
    with (
        paced("train_litgpt", *litgpts, errors=errors, environment=environment) as theirs,
        paced("train_ours", folder, errors=setting.work_dir / "ours.txt") as ours,
    ):
        reference, found = take_turns(theirs, ours, 2 * setting.rounds, WARM_UP)
    return _rows(reference, found, "" if compiles else "not compiled: no C++ compiler here")


def _warm_compile_cache(litgpts: Sequence[Path | str], errors: Path) -> None:
    """LitGPT's first two turns, after which what it compiles is on the disk."""
    with paced("train_litgpt", *litgpts, errors=errors) as process:
        for _ in range(2):
            process.turn()


def _rows(reference: list[Turn], ours: list[Turn], note: str) -> list[Row]:
    def medians(what: str, figure: Callable[[Turn], float]) -> tuple[float, float]:
        theirs, own = ([figure(t) for t in turns if t.what == what] for turns in (reference, ours))
        return statistics.median(theirs), statistics.median(own)

    def notes(what: str, *others: str) -> str:
        theirs, own = medians(what, lambda turn: turn.cpu_s)
        return "; ".join(filter(None, (f"CPU time {own / theirs:.2f} x", *others, note)))

    step, evaluation = (medians(what, lambda turn: turn.wall_s) for what in ("train", "evaluate"))
    return [
        Row(
            "training/speed",
            f"training of {MODEL}, steady",
            LITGPT,
            ON_CPU.tokens_per_turn / step[0],
            ON_CPU.tokens_per_turn / step[1],
            "tokens/s",
            1.1,
            more_is_better=True,
            note=notes("train"),
        ),
        Row(
            "training/memory",
            f"peak memory of training {MODEL}",
            LITGPT,
            reference[-1].peak_bytes / 1e6,
            ours[-1].peak_bytes / 1e6,
            "MB",
            0.7,
            note=note,
        ),
        Row(
            "training/evaluation",
            f"evaluation of {EVALUATION_BATCHES} batches",
            f"{LITGPT}, its loaders",
            *evaluation,
            "s",
            0.25,
            note=notes("evaluate", SPAWNED),
        ),
    ]
