"""Converting a training checkpoint to weights: whole commands, wall and peak memory."""

import shutil
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.commands import Measured, continuum, measure
from tests.benchmarks.rows import Row, Setting, benchmark, paired

CHECKPOINT = """\
continuum: 1
name: convert
stages:
  prose: {kind: fetch, sources: [{python: pydoc_data/topics.py}]}
  tokenizer: {kind: train_tokenizer, corpus: prose, vocab_size: 300}
  tokens: {kind: tokenize, corpus: prose, tokenizer: tokenizer, validation: {fraction: 0.1}}
  pretrain:
    kind: pretrain
    model: %s
    data: tokens
    max_steps: 1
    sequence_length: 16
    global_batch_size: 1
    optimizer: {name: AdamW, lr: 1e-3}
    precision: 32-true
    evaluate: null
    runtime: {micro_batch_size: 1, accelerator: cpu}
"""
CONVERT = "  weights: {kind: convert, from: pretrain}\n"
FULL = "{name: pythia-160m, padded_vocab_size: 25088}"
"""124 M parameters: 0.5 GB of weights in a checkpoint of 1.5 GB."""
QUICK = "{name: pythia-14m, n_embd: 256, n_head: 4, padded_vocab_size: 16384}"


@benchmark("convert")
def bench_convert(setting: Setting) -> Sequence[Row]:
    """`continuum run` with nothing left but the conversion, against LitGPT's command."""
    folder = setting.work_dir / "experiment"
    checkpoint = _train(folder, QUICK if setting.quick else FULL)
    size = (checkpoint / "lit_model.pth").stat().st_size
    ours: list[Measured] = []
    theirs: list[Measured] = []
    paired(
        partial(_with_litgpt, checkpoint, setting.work_dir / "converted", theirs),
        partial(_with_continuum, folder, ours),
        1 if setting.quick else 3,
    )
    return _rows(theirs[1:], ours[1:], size)


def _rows(theirs: Sequence[Measured], ours: Sequence[Measured], size: int) -> list[Row]:
    what = f"convert a training checkpoint of {size / 1e9:.2g} GB"
    reference = "litgpt convert_pretrained_checkpoint"
    note = (
        "ours reads and hashes all of the checkpoint first, compares, hashes and flushes what it "
        "wrote, and imports what trains, as every run does; LitGPT's does none of it"
    )
    walls = [statistics.median(m.wall_s for m in each) for each in (theirs, ours)]
    peaks = [statistics.median(m.peak_bytes for m in each) / 1e6 for each in (theirs, ours)]
    return [
        Row("convert/wall", what, reference, walls[0], walls[1], "s", 1.0, note=note),
        Row("convert/memory", f"{what}, peak memory", reference, peaks[0], peaks[1], "MB", 1.0),
    ]


def _train(folder: Path, model: str) -> Path:
    """A checkpoint of one step by `continuum run`; the stage that converts it is then added."""
    folder.mkdir()
    spec = folder / "experiment.yaml"
    spec.write_text(CHECKPOINT % model, encoding="utf-8")
    measure(continuum("run", folder))
    spec.write_text(CHECKPOINT % model + CONVERT, encoding="utf-8")
    (checkpoint,) = folder.glob("runs/pretrain-*/output")
    return checkpoint


def _with_continuum(folder: Path, measured: list[Measured]) -> float:
    for made in folder.glob("runs/weights-*"):
        shutil.rmtree(made)
    measured.append(measure(continuum("run", folder)))
    return measured[-1].wall_s


def _with_litgpt(checkpoint: Path, out: Path, measured: list[Measured]) -> float:
    shutil.rmtree(out, ignore_errors=True)
    litgpt = Path(sys.executable).with_name("litgpt")
    measured.append(measure([litgpt, "convert_pretrained_checkpoint", checkpoint, out]))
    return measured[-1].wall_s
