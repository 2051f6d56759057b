"""Whole runs of `continuum`, as a user has them, at the size of the device."""

import json
from pathlib import Path
from typing import Any

from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, TOY_MODEL, small_flow
from tests.gpu.parts import Setting

LENGTH, TOY_LENGTH = 2048, 32


def write(
    setting: Setting, folder: Path, *, model: str = "pythia-160m", micro: int = 8, **fields: Any
) -> Path:
    """An experiment whose `pretrain` fits the device: of the model, or of a toy on a CPU.

    Args:
        fields: Replaced in `pretrain`; `runtime` is added to.
    """
    runtime = {"accelerator": setting.device, "micro_batch_size": 2 if setting.is_toy else micro}
    runtime["checkpoint"] = {"every": 1000}
    runtime |= fields.pop("runtime", {})
    changes = {
        "model": TOY_MODEL if setting.is_toy else model,
        "sequence_length": TOY_LENGTH if setting.is_toy else LENGTH,
        "global_batch_size": 4 if setting.is_toy else 2 * micro,
        "optimizer": {"lr": 3e-4, "weight_decay": 0.1},
        "max_norm": 1.0,
        "evaluate": {"final": False},
        **fields,
    }
    text = small_flow(
        only=FIRST_STAGES,
        pretrain__runtime=runtime,
        **{f"pretrain__{name}": value for name, value in changes.items()},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, **environment: str) -> None:
    """`continuum run`, which must end well."""
    done = Cli(environment)("run", folder, expect=None)
    print(done.stdout, done.stderr)
    if done.returncode:
        raise RuntimeError(f"continuum run: exit {done.returncode}: {done.stderr[-1500:]}")


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the training's metrics."""
    path = only(folder, "runs/pretrain-*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def losses(folder: Path) -> list[float]:
    """The training losses, of every logged step."""
    return [row["loss"] for row in rows(folder) if row.get("loss") is not None]


def log(folder: Path) -> str:
    """What the training printed."""
    path = only(folder, "runs/pretrain-*/log.txt")
    return path.read_text(encoding="utf-8", errors="replace")
