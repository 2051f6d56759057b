"""Training as `continuum run` does it against `litgpt pretrain`: speed, memory, evaluation."""

import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.pacing import Turn, paced, take_turns
from tests.benchmarks.quiet import Quiet, watched
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
    """Steps and evaluations of the same training, in turns; then what each process has taken.

    LitGPT trains compiled, as its command does where there is a C++ compiler, and eager.
    """
    folder = write_training(setting.work_dir / "ours")
    tokenizer = tokenizer_of(folder)
    compiles = shutil.which(os.environ.get("CXX", "g++")) is not None
    if compiles and not setting.quick:
        # With texts of its own: a process that finds them tokenized forks its loaders' workers.
        texts = write_texts(setting.work_dir / "warm")
        warm = (texts, tokenizer, ON_CPU.as_json())
        _warm_compile_cache(warm, setting.work_dir / "warm.txt")
    ways: dict[str, dict[str, str]] = {"compiled": {}} if compiles else {}
    if not (compiles and setting.quick):  # a third process would double a quick run
        ways["eager"] = {"TORCHDYNAMO_DISABLE": "1"}
    with watched() as watch, ExitStack() as stack:
        processes = [
            stack.enter_context(
                paced(
                    "train_litgpt",
                    write_texts(setting.work_dir / way),
                    tokenizer,
                    ON_CPU.as_json(),
                    errors=setting.work_dir / f"{way}.txt",
                    environment=environment,
                )
            )
            for way, environment in ways.items()
        ]
        errors = setting.work_dir / "ours.txt"
        processes.append(stack.enter_context(paced("train_ours", folder, errors=errors)))
        *theirs, ours = take_turns(processes, 2 * setting.rounds, WARM_UP)
    rows: list[Row] = []
    for way, turns in zip(ways, theirs, strict=True):
        rows += _speed_rows(way, turns, ours, watch.quiet)
    return [*rows, *_other_rows(next(iter(ways)), theirs[0], ours, watch.quiet)]


def _warm_compile_cache(litgpts: Sequence[Path | str], errors: Path) -> None:
    """LitGPT's first two turns, after which what it compiles is on the disk."""
    with paced("train_litgpt", *litgpts, errors=errors) as process:
        for _ in range(2):
            process.turn()


def _medians(
    what: str, figure: Callable[[Turn], float], *sides: Sequence[Turn]
) -> tuple[float, ...]:
    """The median turn of each side."""
    return tuple(
        statistics.median(figure(turn) for turn in turns if turn.what == what) for turns in sides
    )


def _speed_rows(
    way: str, theirs: Sequence[Turn], ours: Sequence[Turn], quiet: Quiet
) -> Iterator[Row]:
    """Training against LitGPT in one way, in wall time and in CPU time.

    The row against the compiled one has the name under which its ratios were stored before.
    CPU time hangs on the load of others far less; it needs no quiet machine.
    """
    suffix = "" if way == "compiled" else f"-{way}"
    wall = _medians("train", lambda turn: turn.wall_s, theirs, ours)
    cpu = _medians("train", lambda turn: turn.cpu_s, theirs, ours)
    for name, unit, seconds, seen in (
        ("speed", "tokens/s", wall, quiet),
        ("cpu", "tokens/CPU s", cpu, None),
    ):
        yield Row(
            f"training/{name}{suffix}",
            f"training of {MODEL}, steady, {'wall' if name == 'speed' else 'CPU'} time",
            f"{LITGPT}, {way}",
            ON_CPU.tokens_per_turn / seconds[0],
            ON_CPU.tokens_per_turn / seconds[1],
            unit,
            1.1,
            more_is_better=True,
            quiet=seen,
        )


def _other_rows(
    way: str, theirs: Sequence[Turn], ours: Sequence[Turn], quiet: Quiet
) -> Iterator[Row]:
    """Memory and evaluation; against LitGPT as its command runs here."""
    yield Row(
        "training/memory",
        f"peak memory of training {MODEL}",
        f"{LITGPT}, {way}",
        theirs[-1].peak_bytes / 1e6,
        ours[-1].peak_bytes / 1e6,
        "MB",
        0.7,
    )
    cpu = _medians("evaluate", lambda turn: turn.cpu_s, theirs, ours)
    wall = _medians("evaluate", lambda turn: turn.wall_s, theirs, ours)
    yield Row(
        "training/evaluation",
        f"evaluation of {EVALUATION_BATCHES} batches",
        f"{LITGPT}, {way}, its loaders",
        wall[0],
        wall[1],
        "s",
        0.25,
        note=f"CPU time {cpu[1] / cpu[0]:.2f} x; {SPAWNED}",
        quiet=quiet,
    )
