"""The whole flow, from texts to retrained weights, against LitGPT's commands for the same.

Both sides take turns. LitGPT compiles its model in each command; what it compiled is kept between
commands and between runs, so it is measured with an empty cache and with a full one.
"""

import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from continuum.runs import ExperimentFolder
from tests.benchmarks.commands import continuum, measure
from tests.benchmarks.rows import Row, Setting, benchmark
from tests.benchmarks.texts import tokenizer_folder
from tests.text.samples import books

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
    evaluate: {{every: {every}, sequences: 16}}
    runtime: {{accelerator: cpu, micro_batch_size: 4, checkpoint: {{every: {every}}}}}
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
    evaluate: {{every: {every}, sequences: 16}}
    runtime: {{accelerator: cpu, micro_batch_size: 4, checkpoint: {{every: {every}}}}}
"""
LITGPT = {
    "train.global_batch_size": 16,
    "train.micro_batch_size": 4,
    "train.max_seq_length": 256,
    "eval.max_iters": 4,
    "precision": "32-true",
    "devices": 1,
    "data": "TextFiles",
}


ROUNDS = 3


@dataclass(frozen=True)
class Flow:
    """How much is trained, and how often it is evaluated and saved, in optimizer steps."""

    first_tokens: int = 32_768
    longer_tokens: int = 49_152
    every: int = 5

    def __str__(self) -> str:
        return (
            f"pretrain {self.first_tokens:,}, resume to {self.longer_tokens:,}, convert, retrain "
            f"{self.first_tokens:,} tokens; pythia-14m"
        )


SHORT = Flow()
LONG = Flow(first_tokens=393_216, longer_tokens=655_360, every=48)
"""A million tokens: what comes before and between the steps weighs less."""


@dataclass(frozen=True)
class _Material:
    """What both sides read, and where they write."""

    folder: Path
    tokenizer: Path
    texts: tuple[Path, Path]


@benchmark("flow")
def bench_flow(setting: Setting) -> Sequence[Row]:
    """Pretrain, resume, convert, retrain: the four LitGPT commands, and `continuum run`."""
    if setting.quick:  # Minutes, most of them LitGPT's imports and compiling.
        return []
    books = [_write_book(setting.work_dir / f"book{n}", text) for n, text in enumerate(_two())]
    material = _Material(setting.work_dir, tokenizer_folder(setting.work_dir), (books[0], books[1]))
    sides: dict[str, list[float]] = {"ours": [], "cold": [], "warm": []}
    for number in range(ROUNDS):
        for side in sides if number % 2 == 0 else reversed(sides):
            sides[side].append(_measure(side, material, SHORT))
    ours, cold, warm = (statistics.median(found) for found in sides.values())
    split = ", ".join(f"{name} {s:.1f}" for name, s in stage_seconds(setting.work_dir / "ours"))
    note = f"seconds of ours by stage: {split}"
    row = Row(
        "flow", str(SHORT), "litgpt, four commands", cold, ours, "s", 0.45, note=note,
        needs_quiet=True,
    )  # fmt: skip
    warm_row = replace(
        row, name="flow/warm-cache", reference="litgpt, all compiled before", reference_value=warm,
        note="",
    )  # fmt: skip
    return [row, warm_row]


@benchmark("flow-long")
def bench_long_flow(setting: Setting) -> Sequence[Row]:
    """The same with a million tokens, once each, everything of LitGPT's compiled before."""
    if setting.quick:
        return []
    books = [_write_book(setting.work_dir / f"book{n}", text) for n, text in enumerate(_two())]
    material = _Material(setting.work_dir, tokenizer_folder(setting.work_dir), (books[0], books[1]))
    _measure("warm", material, SHORT)
    theirs, ours = _measure("warm", material, LONG), _measure("ours", material, LONG)
    reference = "litgpt, all compiled before"
    return [
        Row(
            "flow-long", str(LONG), reference, theirs, ours, "s", 0.8, note="one run of each",
            needs_quiet=True,
        )
    ]  # fmt: skip


def _measure(side: str, material: _Material, flow: Flow) -> float:
    """Seconds of one side, which begins without anything that it made before.

    LitGPT's token data lie beside the texts, so it gets texts of its own each time.
    """
    folder = material.folder / side
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    texts = [shutil.copytree(t, folder / "texts" / t.name) for t in material.texts]
    if side == "ours":
        return _with_continuum(folder, material.tokenizer, texts[0], texts[1], flow)
    cache = material.folder / "compiled" if side == "warm" else folder / "compiled"
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    if side == "warm" and not cache.exists():
        _with_litgpt(folder, material.tokenizer, texts[0], texts[1], flow, environment)
        return _measure(side, material, flow)
    return _with_litgpt(folder, material.tokenizer, texts[0], texts[1], flow, environment)


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


def _with_continuum(folder: Path, tokenizer: Path, first: Path, second: Path, flow: Flow) -> float:
    text = EXPERIMENT.format(
        tokenizer=tokenizer,
        first=first,
        second=second,
        first_tokens=flow.first_tokens,
        longer_tokens=flow.longer_tokens,
        every=flow.every,
    )
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    return measure(continuum("run", folder)).wall_s


def _with_litgpt(
    folder: Path,
    tokenizer: Path,
    first: Path,
    second: Path,
    flow: Flow,
    environment: Mapping[str, str],
) -> float:
    out = [folder / name for name in ("pretrain", "longer", "weights", "retrain")]
    state = out[0] / "final" / "lit_model.pth"
    settings = {"train.save_interval": flow.every, "eval.interval": flow.every}
    begin = {**settings, "train.max_tokens": flow.first_tokens}
    longer = {**settings, "train.max_tokens": flow.longer_tokens}
    commands = (
        _pretrain(tokenizer, first, out[0], begin),
        _pretrain(tokenizer, first, out[1], longer, "--resume", state),
        ["convert_pretrained_checkpoint", out[1] / "final", out[2]],
        _pretrain(tokenizer, second, out[3], begin, "--initial_checkpoint_dir", out[2]),
    )
    litgpt = Path(sys.executable).with_name("litgpt")
    return sum(
        measure([litgpt, *command], cwd=folder, environment={**os.environ, **environment}).wall_s
        for command in commands
    )


def _pretrain(
    tokenizer: Path, texts: Path, out: Path, more: Mapping[str, int], *words: str | Path
) -> list[str | Path]:
    settings = {
        **LITGPT,
        **more,
        "data.train_data_path": texts / "train",
        "data.val_data_path": texts / "validation",
        "tokenizer_dir": tokenizer,
        "out_dir": out,
    }
    given = [str(word) for key, value in settings.items() for word in (f"--{key}", value)]
    return ["pretrain", "pythia-14m", *given, *words]
