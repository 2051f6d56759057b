"""What training knows at an optimizer step, and nothing that can be derived from it.

The position in the data and the learning rate are pure functions of the step, so they are not
state. Everything here is tensors and plain values: `torch.load(weights_only=True)` reads it, and
with it LitGPT's own converter and validator.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from continuum.training.litgpt import strip_wrapping


@dataclass
class TrainingState:
    """Model, optimizer and counters of one process."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Optimizer steps taken, a resume's parent included."""
    tokens_seen: int = 0
    """Tokens of those steps, over all processes."""
    tokens_before: int = 0
    """Tokens in the ancestry of the weights the stage began from."""
    learning_rate: float = 0.0
    """Of the last step; an extension begins from it."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last losses, by name."""

    @property
    def tokens_total(self) -> int:
        return self.tokens_before + self.tokens_seen

    def snapshot(self) -> dict[str, Any]:
        """All of it as a dictionary of tensors and plain values, to be saved at once."""
        weights = {strip_wrapping(k): v for k, v in self.model.state_dict().items()}
        state: dict[str, Any] = _canonical(
            {
                "model": weights,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "tokens_seen": self.tokens_seen,
                "tokens_before": self.tokens_before,
                "learning_rate": self.learning_rate,
                "metrics": dict(self.metrics),
                "rng": _rng_state(),
            }
        )
        return state

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Become what `snapshot` was, to the last bit."""
        load_model(self.model, snapshot["model"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.step = snapshot["step"]
        self.tokens_seen = snapshot["tokens_seen"]
        self.tokens_before = snapshot["tokens_before"]
        self.learning_rate = snapshot["learning_rate"]
        self.metrics = dict(snapshot["metrics"])
        _restore_rng(snapshot["rng"])


def load_model(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load unwrapped weights into a model that Fabric or torch.compile may have wrapped."""
    names = {strip_wrapping(name): name for name in model.state_dict()}
    model.load_state_dict({names.get(k, k): v for k, v in weights.items()}, strict=True)


def _canonical(value: Any) -> Any:
    """The same value made of fresh containers and interned strings.

    Pickle writes a second occurrence of one object as a back reference, so equal states whose
    strings are shared differently (trained on, or loaded from a file) would differ in their bytes.
    """
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_canonical(item) for item in value)
    return sys.intern(value) if type(value) is str else value


def _rng_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_rng(rng: dict[str, Any]) -> None:
    torch.set_rng_state(rng["cpu"])
    if torch.cuda.is_available() and len(rng["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(rng["cuda"])
