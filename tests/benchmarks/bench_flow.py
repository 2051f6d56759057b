"""The whole flow, from texts to retrained weights, against LitGPT's commands for the same."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from continuum.runs import ExperimentFolder
from tests.benchmarks.commands import continuum, measure
from tests.benchmarks.rows import Row, Setting, benchmark
from tests.benchmarks.texts import tokenizer_folder
from tests.text.samples import books

FIRST_TOKENS, LONGER_TOKENS = 32_768, 49_152
VALIDATION_SHARE = 0.1
EXPERIMENT = """\
continuum: 1
name: flow
stages:
  tokenizer: {{kind: import, path: {tokenizer}, as: tokenizer}}
  first: {{kind: fetch, sources: [{{path: {first}/*/*.txt}}]}}
  second: {{kind: fetch, sources: [{{path: {second}/*/*.txt}}]}}
  first_tokens:
    kind: tokenize
    corpus: first
    tokenizer: tokenizer
    validation: {{files: [validation.txt]}}
  second_tokens:
    kind: tokenize
    corpus: second
    tokenizer: tokenizer
    validation: {{files: [validation.txt]}}
  pretrain:
    kind: pretrain
    model: pythia-14m
    data: first_tokens
    max_tokens: {first_tokens}
    sequence_length: 256
    global_batch_size: 16
    precision: 32-true
    optimizer: {{name: AdamW, lr: 4e-4}}
    evaluate: {{every: 5, sequences: 16}}
    runtime: {{accelerator: cpu, micro_batch_size: 4, checkpoint: {{every: 5}}}}
  longer:
    kind: resume
    from: pretrain
    max_tokens: {longer_tokens}
    schedule: {{kind: linear, to: 0}}
  weights: {{kind: convert, from: longer}}
  retrain:
    kind: retrain
    from: weights
    data: second_tokens
    max_tokens: {first_tokens}
    sequence_length: 256
    global_batch_size: 16
    precision: 32-true
    optimizer: {{name: AdamW, lr: 4e-4}}
    evaluate: {{every: 5, sequences: 16}}
    runtime: {{accelerator: cpu, micro_batch_size: 4, checkpoint: {{every: 5}}}}
"""
LITGPT = {
    "train.global_batch_size": 16,
    "train.micro_batch_size": 4,
    "train.max_seq_length": 256,
    "train.save_interval": 5,
    "eval.interval": 5,
    "eval.max_iters": 4,
    "precision": "32-true",
    "devices": 1,
    "data": "TextFiles",
}


@benchmark("flow")
def bench_flow(setting: Setting) -> Sequence[Row]:
    """Pretrain, resume, convert, retrain: the five LitGPT commands, and `continuum run`."""
    if setting.quick:  # Minutes, most of them LitGPT's imports and compiling.
        return []
    tokenizer = tokenizer_folder(setting.work_dir)
    texts = [_write_book(setting.work_dir / f"book{n}", text) for n, text in enumerate(_two())]
    ours = _with_continuum(setting.work_dir / "ours", tokenizer, *texts)
    theirs = _with_litgpt(setting.work_dir / "litgpt", tokenizer, *texts)
    what = "pretrain 32,768, resume to 49,152, convert, retrain 32,768 tokens; pythia-14m"
    split = ", ".join(f"{name} {s:.1f}" for name, s in stage_seconds(setting.work_dir / "ours"))
    note = f"one run of each; seconds of ours by stage: {split}"
    return [Row("flow", what, "litgpt, four commands", theirs, ours, "s", 0.45, note=note)]


def stage_seconds(folder: Path) -> list[tuple[str, float]]:
    """How long the process of each stage lived, in the order of their starts."""
    found = []
    for run in ExperimentFolder(folder).runs():
        times = [datetime.fromisoformat(line["at"]) for line in run.attempts() if "at" in line]
        found.append((times[0], run.stage_name, (times[-1] - times[0]).total_seconds()))
    return [(name, seconds) for _, name, seconds in sorted(found)]


def _two() -> list[str]:
    """Two books; two halves of one where there are no others."""
    texts = list(books())
    if len(texts) > 1:
        return texts[-2:]
    middle = len(texts[0]) // 2
    return [texts[0][:middle], texts[0][middle:]]


def _write_book(folder: Path, text: str) -> Path:
    place = int(len(text) * (1 - VALIDATION_SHARE))
    for name, part in (("train", text[:place]), ("validation", text[place:])):
        path = folder / name / f"{name}.txt"
        path.parent.mkdir(parents=True)
        path.write_text(part, encoding="utf-8")
    return folder


def _with_continuum(folder: Path, tokenizer: Path, first: Path, second: Path) -> float:
    folder.mkdir()
    text = EXPERIMENT.format(
        tokenizer=tokenizer,
        first=first,
        second=second,
        first_tokens=FIRST_TOKENS,
        longer_tokens=LONGER_TOKENS,
    )
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    return measure(continuum("run", folder)).wall_s


def _with_litgpt(folder: Path, tokenizer: Path, first: Path, second: Path) -> float:
    folder.mkdir()
    out = [folder / name for name in ("pretrain", "longer", "weights", "retrain")]
    state = out[0] / "final" / "lit_model.pth"
    commands = (
        _pretrain(tokenizer, first, out[0], FIRST_TOKENS),
        _pretrain(tokenizer, first, out[1], LONGER_TOKENS, "--resume", state),
        ["convert_pretrained_checkpoint", out[1] / "final", out[2]],
        _pretrain(tokenizer, second, out[3], FIRST_TOKENS, "--initial_checkpoint_dir", out[2]),
    )
    litgpt = Path(sys.executable).with_name("litgpt")
    return sum(measure([litgpt, *command], cwd=folder).wall_s for command in commands)


def _pretrain(
    tokenizer: Path, texts: Path, out: Path, max_tokens: int, *more: str | Path
) -> list[str | Path]:
    settings = {
        **LITGPT,
        "data.train_data_path": texts / "train",
        "data.val_data_path": texts / "validation",
        "train.max_tokens": max_tokens,
        "tokenizer_dir": tokenizer,
        "out_dir": out,
    }
    words = [str(word) for key, value in settings.items() for word in (f"--{key}", value)]
    return ["pretrain", "pythia-14m", *words, *more]
