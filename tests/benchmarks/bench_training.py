"""Training as `continuum run` does it against `litgpt pretrain`: speed, memory, evaluation."""

import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.gemm import flops_of_turn
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
EAGER = {"TORCHDYNAMO_DISABLE": "1"}
"""torch.compile gives back what it is given."""
SPAWNED = (
    "LitGPT spawns its loader's workers each time; where it need not tokenize, it forks them, and "
    "0.53 to 0.79 was seen: the products of matrices are most of it then"
)
LIMIT = replace(ON_CPU, model="pythia-160m", evaluation_batches=None)
LIMIT_QUICK = replace(ON_CPU, evaluation_batches=None)

Sides = dict[str, list[Turn]]
"""The turns of `ours`, of LitGPT `eager` and, where there is a C++ compiler, `compiled`."""


@benchmark("training")
def bench_training(setting: Setting) -> Sequence[Row]:
    """Steps and evaluations of the same training, in turns; then what each process has taken."""
    folder = write_training(setting.work_dir / "ours")
    tokenizer = tokenizer_of(folder)
    compiles = shutil.which(os.environ.get("CXX", "g++")) is not None
    if compiles and not setting.quick:
        # With texts of its own: a process that finds them tokenized forks its loaders' workers.
        texts = write_texts(setting.work_dir / "warm")
        warm = (texts, tokenizer, ON_CPU.as_json())
        _warm_compile_cache(warm, setting.work_dir / "warm.txt")
    sides = {"compiled": {}, "eager": EAGER} if compiles else {"eager": EAGER}
    with ExitStack() as stack:
        processes = {}
        for name, environment in sides.items():
            texts = write_texts(setting.work_dir / name)
            litgpts = (texts, tokenizer, ON_CPU.as_json())
            errors = setting.work_dir / f"{name}.txt"
            litgpt = paced("train_litgpt", *litgpts, errors=errors, environment=environment)
            processes[name] = stack.enter_context(litgpt)
        ours = paced("train_ours", folder, errors=setting.work_dir / "ours.txt")
        processes["ours"] = stack.enter_context(ours)
        found = take_turns(list(processes.values()), 2 * setting.rounds, WARM_UP)
    turns = dict(zip(processes, found, strict=True))
    return [*_speeds(turns), *_others(turns)]


@benchmark("limit")
def bench_limit(setting: Setting) -> Sequence[Row]:
    """The share of the machine's rate of matrix products that training reaches, in turns.

    What is missing to one is everything besides them: norms, activations, the loss, the optimizer.
    """
    training = LIMIT_QUICK if setting.quick else LIMIT
    folder = write_training(setting.work_dir / "ours", training)
    errors = setting.work_dir / "errors.txt"
    with (
        paced("gemm", training.as_json(), errors=errors) as products,
        paced("train_ours", folder, errors=setting.work_dir / "ours.txt") as ours,
    ):
        found = take_turns([products, ours], setting.rounds, WARM_UP)
    flops = flops_of_turn(training)
    reference, own = (flops / _median(turns, "train", _wall_s) / 1e9 for turns in found)
    what = f"rate of the products in training {training.model}"
    return [
        Row(
            "limit",
            what,
            "its matrix products alone",
            reference,
            own,
            "GFLOP/s",
            0.8,
            more_is_better=True,
            needs_quiet=True,
        )
    ]


def _warm_compile_cache(litgpts: Sequence[Path | str], errors: Path) -> None:
    """LitGPT's first two turns, after which what it compiles is on the disk."""
    with paced("train_litgpt", *litgpts, errors=errors) as process:
        for _ in range(2):
            process.turn()


def _median(turns: Sequence[Turn], what: str, figure: Callable[[Turn], float]) -> float:
    return statistics.median(figure(turn) for turn in turns if turn.what == what)


def _wall_s(turn: Turn) -> float:
    return turn.wall_s


def _cpu_s(turn: Turn) -> float:
    return turn.cpu_s


def _speeds(sides: Sides) -> list[Row]:
    """Tokens a second against each side of LitGPT, by the clock and by processor time."""
    names = {"compiled": "training/speed", "eager": "training/speed-eager"}
    rows = []
    for side in (name for name in names if name in sides):
        for suffix, unit, figure in (("", "s", _wall_s), ("-cpu", "s of a processor", _cpu_s)):
            theirs, ours = (
                ON_CPU.tokens_per_turn / _median(sides[name], "train", figure)
                for name in (side, "ours")
            )
            row = Row(
                names[side] + suffix,
                f"training of {MODEL}, steady",
                f"{LITGPT}, {side}",
                theirs,
                ours,
                f"tokens/{unit}",
                1.1,
                more_is_better=True,
                needs_quiet=True,
            )
            rows.append(row)
    return rows


def _others(sides: Sides) -> list[Row]:
    """Memory and evaluation, against LitGPT as its users run it: compiled where it can be."""
    side = "compiled" if "compiled" in sides else "eager"
    reference, ours = sides[side], sides["ours"]
    theirs_s, ours_s = (_median(turns, "evaluate", _wall_s) for turns in (reference, ours))
    cpu = _median(ours, "evaluate", _cpu_s) / _median(reference, "evaluate", _cpu_s)
    return [
        Row(
            "training/memory",
            f"peak memory of training {MODEL}",
            f"{LITGPT}, {side}",
            reference[-1].peak_bytes / 1e6,
            ours[-1].peak_bytes / 1e6,
            "MB",
            0.7,
        ),
        Row(
            "training/evaluation",
            f"evaluation of {EVALUATION_BATCHES} batches",
            f"{LITGPT}, its loaders",
            theirs_s,
            ours_s,
            "s",
            0.25,
            note=f"CPU time {cpu:.2f} x; {SPAWNED}",
            needs_quiet=True,
        ),
    ]
