"""Training on a GPU against `litgpt pretrain`: tokens/s, MFU, memory; no rows where there is none.

    python -m tests.benchmarks --only gpu

Each model is trained in continuum's default precision, which LitGPT then trains in too, and in
LitGPT's own, bf16-true. Where the time goes is told by `python -m tests.gpu profile`.

MFU is the share of the GPU's arithmetic that the model's own operations take: tokens/s times the
operations of a token (`Architecture.training_flops_per_token`), divided by what the device could do
by its data sheet (`continuum.training.throughput`).
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from continuum.experiment.architecture import architecture
from tests.benchmarks.pacing import Turn, paced, take_turns
from tests.benchmarks.rows import Row, Setting, benchmark
from tests.benchmarks.training_spec import Training, tokenizer_of, write_texts, write_training

LITGPT = "litgpt.pretrain.main"
WARM_UP = 2
"""Turns that do not count: compiling, and the memory that is first asked for."""
COMMON = Training(
    sequence_length=2048,
    precision="auto",
    accelerator="cuda",
    log_every=10,
    evaluation_batches=None,
    copies=40,
)
MODELS = (
    replace(COMMON, model="pythia-160m", global_batch=64, micro_batch=16),
    replace(COMMON, model="pythia-410m", global_batch=32, micro_batch=8),
    replace(COMMON, model="pythia-1b", global_batch=32, micro_batch=8),
)
"""They fit into 80 GB."""
PRECISIONS = ("auto", "bf16-true")


@benchmark("gpu")
def bench_gpu(setting: Setting) -> Sequence[Row]:
    """Ten steps of one, then ten of the other; quick ones of the smallest model alone."""
    peak = peak_flops()
    if peak is None:
        print("gpu: no CUDA device here, so nothing is measured", file=sys.stderr)
        return []
    rows: list[Row] = []
    for model in MODELS[: 1 if setting.quick else None]:
        for precision in PRECISIONS:
            training = replace(model, precision=precision)
            folder = setting.work_dir / f"{training.model}-{precision}"
            rows += rows_of(training, *train(training, folder, setting.rounds), peak)
    return rows


def peak_flops(precision: str = COMMON.precision) -> float | None:
    """Floating point operations a second of this machine's first GPU; None without one."""
    import torch

    from continuum.training import throughput as known

    return (
        known.peak_flops(torch.cuda.get_device_name(0), precision)
        if torch.cuda.is_available()
        else None
    )


def train(training: Training, folder: Path, rounds: int) -> tuple[list[Turn], list[Turn]]:
    """The turns of LitGPT and of continuum."""
    ours = write_training(folder / "ours", training)
    texts = write_texts(folder / "texts", training)
    theirs_in = replace(training, precision=training.resolved_precision)
    litgpts = (texts, tokenizer_of(ours), theirs_in.as_json())
    with (
        paced("train_litgpt", *litgpts, errors=folder / "litgpt.txt") as theirs,
        paced("train_ours", ours, errors=folder / "ours.txt") as own,
    ):
        reference, found = take_turns([theirs, own], rounds, WARM_UP)
    return reference, found


def rows_of(
    training: Training, theirs: Sequence[Turn], ours: Sequence[Turn], peak: float
) -> list[Row]:
    """Tokens/s with both MFUs in the note, and the memory of the GPU."""
    model, length = training.model, training.sequence_length
    theirs_s, ours_s = (statistics.median(turn.wall_s for turn in t) for t in (theirs, ours))
    reference, own = training.tokens_per_turn / theirs_s, training.tokens_per_turn / ours_s
    flops = architecture(model).training_flops_per_token(length)
    assert flops is not None, f"{model} is counted"
    note = f"MFU {own * flops / peak:.1%} against {reference * flops / peak:.1%}"
    precision = training.resolved_precision
    what = f"training of {model} on a GPU, {precision}, sequence {length:,}"
    name = f"gpu/{model}-{precision}"
    most, own_most = (max(turn.device_bytes for turn in t) / 1e6 for t in (theirs, ours))
    return [
        Row(
            f"{name}-speed",
            what,
            LITGPT,
            reference,
            own,
            "tokens/s",
            1.0,
            more_is_better=True,
            note=note,
        ),
        Row(
            f"{name}-memory",
            f"{what}, its memory",
            LITGPT,
            most,
            own_most,
            "MB",
            1.0,
        ),
    ]
