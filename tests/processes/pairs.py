"""Two processes on one machine: their experiment, what they leave, and who they are."""

import json
from pathlib import Path
from typing import Any

from continuum.training.weights import read_sharded
from tests.commands import only
from tests.experiments import FIRST_STAGES, small_flow


def spec(
    kind: str = "single",
    *,
    steps: int = 12,
    stages: tuple[str, ...] = FIRST_STAGES,
    **changes: Any,
) -> str:
    """The small pretraining as one process, or as two under a strategy."""
    runtime: dict[str, Any] = {
        "micro_batch_size": 2,
        "log_every": 1,
        "checkpoint": {"every": 4, "keep_last": 9},
    }
    if kind != "single":
        runtime |= {"devices": 2, "strategy": "ddp" if kind == "ddp" else "fsdp"}
    if kind == "sharded":
        runtime["checkpoint"] = {**runtime["checkpoint"], "format": "sharded"}
    return small_flow(only=stages, pretrain__max_steps=steps, pretrain__runtime=runtime, **changes)


def losses(folder: Path) -> list[float]:
    lines = only(folder, "runs/pretrain-*/metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if row.get("loss")]


def attempts(folder: Path) -> list[dict[str, Any]]:
    lines = only(folder, "runs/pretrain-*/attempts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def final_state(folder: Path) -> Any:
    """The last checkpoint: its bytes, or, of shards (whose files torch fills as it likes), all."""
    output = only(folder, "runs/pretrain-*/output")
    if (output / "lit_model.pth").exists():
        return (output / "lit_model.pth").read_bytes()
    whole = read_sharded(output)
    moments = whole["optimizer"]["state"].items()
    tensors = {**whole["model"], **{f"{p}/{k}": v for p, s in moments for k, v in s.items()}}
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def ranks_of(folder: Path) -> list[int]:
    """The ranks at work in an experiment's folder, in their order."""
    return _processes(b"continuum.execution.worker", folder)


def agents_of(folder: Path) -> list[int]:
    """The torchruns at work in an experiment's folder."""
    return _processes(b"continuum.execution.launchers.torchrun_agent", folder)


def _processes(module: bytes, folder: Path) -> list[int]:
    """Processes of `python -m module` with a path below the folder among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            options = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        is_module = b"-m" in options and options[options.index(b"-m") + 1] == module
        if is_module and any(part.startswith(bytes(folder) + b"/") for part in options):
            found.append(int(process.name))
    return sorted(found)
