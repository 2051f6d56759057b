"""Experiments whose data is made for real and whose trainings only leave records: losses that a
test knows, in an instant."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from continuum.execution.launchers.in_process import InProcessLauncher
from continuum.experiment.recipe import validation_metrics
from continuum.runs.artifacts import (
    Evaluation,
    Score,
    TokenizedDataset,
    TrainingCheckpoint,
    record_best,
)
from continuum.runs.attempts import now
from continuum.runs.events import Outcome, Report
from continuum.runs.files import append_json_line
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord
from continuum.stages import rebuild_stage
from continuum.stages.pretrain import Pretrain
from tests.in_process import run_folder

MODEL = {"name": "pythia-14m", "n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 320}
BATCH = {"sequence_length": 16, "global_batch_size": 4}
TOKENS_PER_STEP = 64
NUM_STEPS, EVERY = 8, 4
Losses = Callable[[StageRecord, str, int], float | None]
"""The loss of a stage's record in a column at a step."""


def losses(record: StageRecord, column: str, step: int) -> float | None:
    """Lower with each step and with a higher learning rate; each seed and dataset is a bit off."""
    assert record.recipe is not None
    seed = max((record.seeds or {"": 0}).values())
    rate: float = record.recipe["optimizer"]["lr"]
    return round(6 - 0.1 * step - 10 * rate + 0.01 * seed + 0.001 * len(column), 6)


def training(kind: str, **fields: Any) -> dict[str, Any]:
    """A training stage of eight steps, evaluated every four."""
    found = {
        "kind": kind,
        "data": "tokens",
        "max_steps": NUM_STEPS,
        **BATCH,
        "optimizer": {"lr": 1e-3},
        "evaluate": {"every": EVERY, "sequences": 4},
        "runtime": {"micro_batch_size": 2},
        **({"model": MODEL} if kind == "pretrain" else {}),
    }
    return {**found, **fields}


def write_spec(folder: Path, *, seed: int = 1, **stages: Mapping[str, Any] | None) -> Path:
    """Write an experiment with a corpus, its tokens, and these stages; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "All happy families are alike; each unhappy one is unhappy in its own way. " * 200
    for name in ("book", "code"):
        if not (folder / f"{name}.txt").exists():
            (folder / f"{name}.txt").write_text(f"{name}: {text}", encoding="utf-8")
    tokens = {"kind": "tokenize", "tokenizer": "tokenizer", "validation": {"fraction": 0.1}}
    found: dict[str, Any] = {
        "book": {"kind": "fetch", "sources": [{"path": "book.txt"}]},
        "tokenizer": {"kind": "train_tokenizer", "corpus": "book", "vocab_size": 270},
        "tokens": {**tokens, "corpus": "book"},
        **stages,
    }
    used = str(found)
    if "code_tokens" in used:
        found["code"] = {"kind": "fetch", "sources": [{"path": "code.txt"}]}
        found["code_tokens"] = {**tokens, "corpus": "code", **found.get("code_tokens", {})}
    document = {
        "continuum": 1,
        "name": "recorded",
        "seed": seed,
        "stages": {name: stage for name, stage in found.items() if stage is not None},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


@dataclass
class Recorder(InProcessLauncher):
    """Runs the stages that make data, and writes the records of those that train."""

    losses: Losses = losses
    ends: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """How stages end that do not complete, and after which step: `{"pretrain": ("failed", 6)}`."""

    def __post_init__(self) -> None:
        """A dataclass has its own `__init__`."""
        InProcessLauncher.__init__(self)

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        if record.kind == "evaluate":
            write_scores(run, record)
            return Outcome("done")
        if record.recipe is None:
            return super().launch(run, record, on_event)
        status, last = self.ends.get(record.name, ("done", self.steps_of(record)))
        metrics = write_metrics(run, record, last, self.losses)
        run.keep_resolved({"precision": "32-true"})
        if status != "done":
            return Outcome(status, f"{status} as the test asked")  # type: ignore[arg-type]
        run.complete(made_by(run, record, last, metrics))
        return Outcome("done")

    def steps_of(self, record: StageRecord) -> int:
        """The optimizer steps of a stage."""
        assert record.recipe is not None
        num_steps, num_tokens = (record.recipe[name] for name in ("max_steps", "max_tokens"))
        return int(num_steps if num_steps is not None else num_tokens // TOKENS_PER_STEP)


def write_metrics(
    run: StageRun, record: StageRecord, num_steps: int, losses: Losses = losses
) -> dict[str, float]:
    """Write a row for each step, and one for each evaluation; the last value of each column."""
    assert record.recipe is not None
    evaluate = record.recipe["evaluate"]
    on = evaluate["on"] if evaluate is not None else []
    named = tuple(dict.fromkeys((*record.recipe["data"], *on)))
    columns = validation_metrics(named)
    columns = columns[1:] or columns
    metrics: dict[str, float] = {}
    begun = max(used.step or 0 for used in record.inputs) if record.kind == "resume" else 0
    for step in range(begun + 1, num_steps + 1):
        tokens = step * TOKENS_PER_STEP
        common = {"attempt": 1, "step": step, "at": now()}
        loss = losses(record, "loss", step)
        row = {"tokens": tokens, "tokens_total": tokens, "loss": loss, "lr": 1e-3}
        append_json_line(run.metrics_path, {**common, **row, "tokens_per_s": 1000.0 + step})
        metrics |= {} if loss is None else {"loss": loss}
        if evaluate is None or (step % EVERY and step < num_steps):
            continue
        found = {column: losses(record, column, step) for column in columns}
        if len(columns) > 1:
            found = {"val_loss": found[columns[0]], **found}
        append_json_line(run.metrics_path, {**common, "tokens": tokens, **found})
        metrics |= {name: value for name, value in found.items() if value is not None}
        for name in record.best_metrics:
            if found.get(name) is not None:
                record_best(metrics, name, step, found[name])
    return metrics


def made_by(
    run: StageRun, record: StageRecord, num_steps: int, metrics: Mapping[str, float]
) -> TrainingCheckpoint:
    """The result of a training, without weights."""
    run.output_dir.mkdir(exist_ok=True)
    (run.output_dir / "lit_model.pth").write_bytes(b"weights")
    inputs = [StageRun(run.path.parent / used.run).artifact() for used in record.inputs]
    (dataset, *_) = (it for it in inputs if isinstance(it, TokenizedDataset))
    parents = [it.model_config_fields for it in inputs if isinstance(it, TrainingCheckpoint)]
    stage = rebuild_stage(record)
    fields = stage.architecture().fields if isinstance(stage, Pretrain) else parents[0]
    tokens = num_steps * TOKENS_PER_STEP
    return TrainingCheckpoint(
        path=run.output_dir,
        step=num_steps,
        tokens_seen=tokens,
        tokens_total=tokens,
        vocabulary_digest=dataset.vocabulary_digest,
        model_config_fields=fields,
        metrics=dict(metrics),
    )


def write_scores(run: StageRun, record: StageRecord) -> None:
    """Write an evaluation: a loss of 4, and 2 bytes for each token of every tokenizer."""
    made = {it.ref: StageRun(run.path.parent / it.run).artifact() for it in record.inputs}
    digests = {it.ref: it.digest for it in record.inputs}
    models = {ref: it for ref, it in made.items() if isinstance(it, TrainingCheckpoint)}
    run.output_dir.mkdir(exist_ok=True)
    (run.output_dir / "scores.json").write_text("{}")
    scores = [
        Score(
            model=ref,
            model_digest=digests[ref],
            tokens_total=model.tokens_total,
            text=text,
            text_digest=digests[text],
            split="all",
            vocabulary_digest=model.vocabulary_digest or "",
            sequence_length=16,
            num_sequences=10,
            num_tokens=160,
            num_bytes=320,
            loss=4.0,
            standard_error=0.1,
            accuracy=0.25,
        )
        for ref, model in models.items()
        for text in made.keys() - models.keys()
    ]
    run.complete(Evaluation(path=run.output_dir, scores=tuple(scores), precision="32-true"))


def record(folder: Path, **options: Any) -> Path:
    """Run an experiment as far as its records go; the folder."""
    run_folder(folder, launcher=Recorder(**options))
    return folder
