"""Token data, models and experiments that these tests train on in seconds."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Fabric

from continuum.execution.launchers.in_process import InProcessLauncher
from continuum.execution.results import RunResult
from continuum.experiment.architecture import architecture
from continuum.experiment.recipe import Recipe, Schedule
from continuum.planning.plan import Plan
from continuum.runs.artifacts import TokenizedDataset, TrainingCheckpoint
from continuum.runs.events import Event, Trained
from continuum.runs.folder import StageRun
from continuum.text.bpe import train_bpe
from continuum.text.dataset import SplitWriter
from continuum.training.checkpoint import Companions
from continuum.training.data import Blocks
from continuum.training.litgpt import build_model, initialize_weights
from continuum.training.model import compiled
from continuum.training.state import TrainingState
from tests.experiments import TOY_MODEL, small_flow
from tests.in_process import plan_folder, run_folder

VOCABULARY = 64
LENGTH = 8
"""Tokens of a sequence in the unit tests."""
FIELDS = architecture(
    "pythia-14m",
    {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": VOCABULARY, "block_size": 32},
).fields
TOY_FIELDS = architecture(
    "pythia-14m", {key: value for key, value in TOY_MODEL.items() if key != "name"}
).fields


Write = Callable[..., TrainingCheckpoint]
"""Writes a checkpoint of a step; `into` another run if it is said."""


def token_stream(num_tokens: int, seed: int = 0) -> list[int]:
    """Tokens with something to learn: each is the one before plus a little noise."""
    noise = np.random.default_rng(seed).integers(0, 3, num_tokens)
    found: list[int] = (np.cumsum(noise) % VOCABULARY).tolist()
    return found


def write_split(folder: Path, ids: Sequence[int], *, chunk_tokens: int = 1 << 12) -> Any:
    """litdata chunks of `ids`; their record."""
    writer = SplitWriter(folder, dtype="uint16", chunk_bytes=2 * chunk_tokens)
    writer.append(np.asarray(ids))
    writer.end_document()
    return writer.close()


def blocks_of(folder: Path, ids: Sequence[int], *, chunk_tokens: int = 1 << 12) -> Blocks:
    """The blocks of `ids`, written to `folder` first."""
    write_split(folder, ids, chunk_tokens=chunk_tokens)
    return Blocks(folder, LENGTH, VOCABULARY)


def cut(ids: Sequence[int], chunk_tokens: int = 1 << 12) -> list[list[int]]:
    """The blocks that a reader must find: none spans two chunks."""
    width = LENGTH + 1
    chunks = [ids[start : start + chunk_tokens] for start in range(0, len(ids), chunk_tokens)]
    return [
        list(chunk[start : start + width])
        for chunk in chunks
        for start in range(0, len(chunk) - width + 1, width)
    ]


def make_dataset(
    *,
    train: int | Sequence[int] = 10_000,
    validation: int | None = 1_000,
    num_ids: int = VOCABULARY,
    vocabulary_digest: str = "v" * 64,
) -> TokenizedDataset:
    """The record of a dataset, without its files: numbers are tokens of one chunk."""
    chunks = (train,) if isinstance(train, int) else tuple(train)

    def split(tokens: tuple[int, ...]) -> dict[str, Any]:
        return {"num_tokens": sum(tokens), "num_documents": 1, "chunk_tokens": tokens}

    return TokenizedDataset.model_validate(
        {
            "path": Path("nowhere"),
            "train": split(chunks),
            "validation": None if validation is None else split((validation,)),
            "dtype": "uint16",
            "num_ids": num_ids,
            "vocabulary_digest": vocabulary_digest,
            "document": "eos",
            "backend": "tokenizers",
        }
    )


def make_recipe(**fields: Any) -> Recipe:
    """A recipe from its YAML fields: 100 steps of 4 sequences unless said otherwise."""
    document: dict[str, Any] = {
        "data": {"tokens": 1.0},
        "sequence_length": LENGTH,
        "global_batch_size": 4,
        "optimizer": {"lr": 1e-2},
        "schedule": Schedule.model_validate({"warmup": "10%", "min_lr": 1e-3}),
        "max_norm": 1.0,
        "runtime": {"micro_batch_size": 2},
    }
    document |= fields
    if not document.keys() & {"max_tokens", "max_steps", "epochs"}:
        document["max_steps"] = 100
    return Recipe.model_validate(document, strict=False)


def cpu_fabric(loggers: Any = (), precision: Any = "32-true") -> Fabric:
    """A launched Fabric on the CPU."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision, loggers=loggers)
    fabric.launch()
    return fabric


def make_state(
    fabric: Fabric,
    *,
    seed: int = 3,
    optimizer: str = "AdamW",
    backend: Any = None,
    **arguments: Any,
) -> TrainingState:
    """A fresh two-layer model (compiled by `backend`, if any) and its optimizer."""
    fabric.seed_everything(seed, verbose=False)
    model = build_model(fabric, FIELDS, LENGTH)
    initialize_weights(fabric, model, n_layer=2, n_embd=16)
    wrapped = fabric.setup(compiled(model, backend) if backend else model)
    cls = getattr(torch.optim, optimizer)
    prepared: Any = fabric.setup_optimizers(cls(wrapped.parameters(), lr=1e-2, **arguments))
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return TrainingState(wrapped, prepared, scaler=scaler)


def take_steps(fabric: Fabric, state: TrainingState, number: int) -> None:
    """Train on random tokens, so that the random stream matters too."""
    for _ in range(number):
        tokens = torch.randint(0, VOCABULARY, (4, LENGTH))
        fabric.backward(state.model(tokens).square().mean())
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        state.tokens_seen += tokens.numel()


def tokenizer_folder(folder: Path) -> Path:
    """A small trained tokenizer, as it lies beside the tokens of a dataset."""
    train_bpe(
        ("low lower lowest",),
        folder,
        vocab_size=300,
        min_frequency=1,
        bos_token="<|s|>",
        eos_token="<|s|>",
    )
    return folder


def companions(tokenizer_dir: Path, fields: dict[str, Any] = FIELDS) -> Companions:
    """What lies beside the tensors in the tests' checkpoints."""
    made = TrainingCheckpoint(
        path=tokenizer_dir, model_config_fields=fields, vocabulary_digest="v" * 64
    )
    recipe = make_recipe().model_dump(mode="json", exclude_none=True)
    return Companions(made, tokenizer_dir, recipe)


class Trials:
    """Experiments over data that was made once, carried out in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def copied_to(self, folder: Path) -> "Trials":
        """The same experiments once more."""
        return Trials(shutil.copytree(self.folder, folder))

    def write(self, *, only: tuple[str, ...], **changes: Any) -> None:
        """Write `experiment.yaml`: the named stages of the small flow, with replaced parts."""
        text = small_flow(only=only, **changes)
        (self.folder / "experiment.yaml").write_text(text, encoding="utf-8")

    def carry_out(
        self, *, events: list[Event] | None = None, stop_at: int | None = None
    ) -> RunResult:
        """Run `experiment.yaml`; `stop_at` asks for a stop after that optimizer step."""
        launcher = InProcessLauncher()

        def observe(stage: str, event: Event) -> None:
            if events is not None:
                events.append(event)
            if isinstance(event, Trained) and event.step == stop_at:
                launcher.stop()

        return run_folder(self.folder, observe, launcher=launcher)

    def plan(self) -> Plan:
        """What carrying `experiment.yaml` out would do."""
        return plan_folder(self.folder)

    def run(self, *, only: tuple[str, ...], **changes: Any) -> None:
        """Write and run an experiment; every stage must end well."""
        self.write(only=only, **changes)
        self.carry_out().raise_for_failure()

    def stage_run(self, stage: str) -> StageRun:
        """The run folder of a stage with one finger print in this experiment."""
        (found,) = self.folder.glob(f"runs/{stage}-*")
        return StageRun(found)

    def weights(self, stage: str) -> dict[str, torch.Tensor]:
        """The final weights of a stage."""
        return self.state(stage)["model"]  # type: ignore[no-any-return]

    def state(self, stage: str) -> dict[str, Any]:
        """The final training state of a stage."""
        path = self.stage_run(stage).output_dir / "lit_model.pth"
        loaded: dict[str, Any] = torch.load(path, weights_only=True)
        return loaded

    def state_bytes(self, stage: str) -> bytes:
        """The file of the final training state."""
        return (self.stage_run(stage).output_dir / "lit_model.pth").read_bytes()

    def checkpoint(self, stage: str) -> TrainingCheckpoint:
        """What a training stage made."""
        artifact = self.stage_run(stage).artifact()
        assert isinstance(artifact, TrainingCheckpoint)
        return artifact

    def num_blocks(self, dataset: str, sequence_length: int = 32) -> int:
        """Training blocks of a dataset."""
        artifact = self.stage_run(dataset).artifact()
        assert isinstance(artifact, TokenizedDataset)
        return artifact.train.num_blocks(sequence_length)

    def rows(self, stage: str) -> list[dict[str, Any]]:
        """The lines of a stage's `metrics.jsonl`."""
        return self.stage_run(stage).metrics()


def assert_equal_tensors(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Same names, types and bits."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor, second[name]), name


@contextmanager
def damaged(path: Path, data: bytes | None) -> Iterator[None]:
    """The file with other bytes (or none at all) while the context lasts."""
    whole = path.read_bytes()
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(whole)


def steps_of(saved: list[TrainingCheckpoint]) -> list[int]:
    return [checkpoint.step for checkpoint in saved]
