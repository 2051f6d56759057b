"""The whole flow, from texts to retrained weights, against LitGPT's commands for the same."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from continuum.runs.folder import ExperimentFolder
from tests.benchmarks.commands import continuum, measure
from tests.benchmarks.quiet import Quiet, watched
from tests.benchmarks.rows import Row, Setting, benchmark, in_turns
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


@dataclass(frozen=True)
class Flow:
    """What is trained, by both sides alike."""

    first_tokens: int
    """Of pretraining, and of retraining."""
    longer_tokens: int
    """Of the total to which the pretraining is resumed."""

    def __str__(self) -> str:
        first, longer = f"{self.first_tokens:,}", f"{self.longer_tokens:,}"
        return f"pretrain {first}, resume to {longer}, convert, retrain {first} tokens; pythia-14m"


SHORT = Flow(32_768, 49_152)
LONG = Flow(409_600, 606_208)
"""A million tokens in all: what starts and compiles weighs less."""
ROUNDS = 3
TARGETS = {"flow": 0.45, "flow/warm": 0.7, "flow/long": 1.0}


@benchmark("flow")
def bench_flow(setting: Setting) -> Sequence[Row]:
    """Pretrain, resume, convert, retrain: the five LitGPT commands, and `continuum run`."""
    if setting.quick:  # Minutes, most of them LitGPT's imports and compiling.
        return []
    return flow_rows(setting, SHORT, LONG, ROUNDS)


def flow_rows(setting: Setting, short: Flow, long: Flow, rounds: int) -> list[Row]:
    """The short flow with LitGPT's compile cache empty, then warm; the long one with a warm one."""
    sides = _Sides(setting.work_dir)
    cold, warm = sides.litgpt(short, is_warm=False), sides.litgpt(short, is_warm=True)
    with watched() as watch:
        cold()  # fills the cache that stays warm
        cold_s, warm_s, ours_s = in_turns([cold, warm, sides.ours(short)], rounds, warm_up=False)
    split = ", ".join(f"{name} {s:.1f}" for name, s in stage_seconds(sides.newest))
    told = f"medians of {rounds} in turns; seconds of our last by stage: {split}"
    with watched() as long_watch:
        runs = [sides.litgpt(long, is_warm=True), sides.ours(long)]
        long_s, long_ours_s = in_turns(runs, 1, warm_up=False)
    return [
        _row("flow", short, "compile cache empty", cold_s, ours_s, told, watch.quiet),
        _row("flow/warm", short, "compile cache warm", warm_s, ours_s, told, watch.quiet),
        _row(
            "flow/long", long, "compile cache warm", long_s, long_ours_s, "one run of each",
            long_watch.quiet,
        ),
    ]  # fmt: skip


def _row(
    name: str, flow: Flow, cache: str, theirs: float, ours: float, note: str, quiet: Quiet
) -> Row:
    reference = f"litgpt, four commands, {cache}"
    return Row(name, str(flow), reference, theirs, ours, "s", TARGETS[name], note=note, quiet=quiet)


class _Sides:
    """Runs of both sides on the same texts, each in a new folder."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._tokenizer = tokenizer_folder(work_dir)
        self._texts = [_write_book(work_dir / f"book{n}", text) for n, text in enumerate(_two())]
        self._number = 0
        self.newest = work_dir
        """The folder of our last run."""

    def ours(self, flow: Flow) -> Callable[[], float]:
        """Seconds of `continuum run`."""

        def run() -> float:
            self.newest = self._folder("ours")
            return _with_continuum(self.newest, flow, self._tokenizer, *self._texts)

        return run

    def litgpt(self, flow: Flow, *, is_warm: bool) -> Callable[[], float]:
        """Seconds of LitGPT's commands; those that are not warm compile everything.

        The first of them fills the cache of the warm ones.
        """
        warm = self._work_dir / "compiled"

        def run() -> float:
            folder = self._folder("litgpt")
            cache = warm if is_warm or not warm.exists() else folder / "compiled"
            return _with_litgpt(folder, flow, cache, self._tokenizer, *self._texts)

        return run

    def _folder(self, side: str) -> Path:
        self._number += 1
        folder = self._work_dir / f"{side}{self._number}"
        folder.mkdir()
        return folder


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


def _with_continuum(folder: Path, flow: Flow, tokenizer: Path, first: Path, second: Path) -> float:
    text = EXPERIMENT.format(
        tokenizer=tokenizer,
        first=first,
        second=second,
        first_tokens=flow.first_tokens,
        longer_tokens=flow.longer_tokens,
    )
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    return measure(continuum("run", folder)).wall_s


def _with_litgpt(
    folder: Path, flow: Flow, cache: Path, tokenizer: Path, first: Path, second: Path
) -> float:
    out = [folder / name for name in ("pretrain", "longer", "weights", "retrain")]
    state = out[0] / "final" / "lit_model.pth"
    commands = (
        _pretrain(tokenizer, first, out[0], flow.first_tokens),
        _pretrain(tokenizer, first, out[1], flow.longer_tokens, "--resume", state),
        ["convert_pretrained_checkpoint", out[1] / "final", out[2]],
        _pretrain(tokenizer, second, out[3], flow.first_tokens, "--initial_checkpoint_dir", out[2]),
    )
    litgpt = Path(sys.executable).with_name("litgpt")
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache / "triton")}
    return sum(
        measure([litgpt, *command], cwd=folder, environment=environment).wall_s
        for command in commands
    )


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
