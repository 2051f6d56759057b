"""torch's optimizers, described without torch: their names, their arguments, what is wrong."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ConfigDict, Field

from continuum.fields import Spec, closest, with_one_spelling
from continuum.stage import Problem

_COMMON = ("eps", "weight_decay", "foreach", "maximize", "differentiable", "capturable")
OPTIMIZER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "AdamW": ("betas", "amsgrad", "fused", *_COMMON),
    "Adam": ("betas", "amsgrad", "fused", "decoupled_weight_decay", *_COMMON),
    "NAdam": ("betas", "momentum_decay", "decoupled_weight_decay", *_COMMON),
    "RAdam": ("betas", "decoupled_weight_decay", *_COMMON),
    "Adamax": ("betas", *_COMMON),
    "Adagrad": (
        "lr_decay", "initial_accumulator_value", "fused",
        "eps", "weight_decay", "foreach", "maximize", "differentiable",
    ),
    "Adadelta": ("rho", *_COMMON),
    "RMSprop": ("alpha", "momentum", "centered", *_COMMON),
    "SGD": (
        "momentum", "dampening", "nesterov", "fused",
        "weight_decay", "foreach", "maximize", "differentiable",
    ),
}  # fmt: skip
"""torch.optim's optimizers that fit this loop, with their arguments; a test compares with torch.

LBFGS wants a closure, SparseAdam sparse gradients, Muon matrices only: they are left out.
"""
_SWITCHES = (
    "foreach", "maximize", "differentiable", "capturable", "amsgrad", "fused",
    "decoupled_weight_decay", "centered", "nesterov",
)  # fmt: skip
"""Those of them that are true or false."""


class Optimizer(Spec):
    """A torch optimizer: its name, its learning rate, and its own arguments."""

    model_config = ConfigDict(extra="allow")

    name: str = "AdamW"
    """A class in `torch.optim`."""
    lr: float = Field(gt=0, allow_inf_nan=False)
    """The peak learning rate. Required: torch's 1e-3 ruins a pretrained model."""
    no_weight_decay: tuple[Literal["norms", "biases", "embeddings"], ...] | None = None
    """Parameters that `weight_decay` leaves alone; None decays all, as LitGPT does."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for torch besides the learning rate."""
        return dict(self.model_extra or {})

    def identity(self) -> dict[str, Any]:
        arguments = {key: v for key, v in self.arguments.items() if v is not None}
        return {**super().identity(), **with_one_spelling(arguments)}


def optimizer_problems(optimizer: Optimizer) -> Iterator[Problem]:
    known = OPTIMIZER_ARGUMENTS.get(optimizer.name)
    if known is None:
        same_but_case = {name.lower(): name for name in OPTIMIZER_ARGUMENTS}
        yield Problem(
            ("optimizer", "name"),
            f"unknown optimizer {optimizer.name!r}",
            same_but_case.get(optimizer.name.lower(), closest(optimizer.name, OPTIMIZER_ARGUMENTS)),
        )
        return
    for name in optimizer.arguments:
        if name not in known:
            yield Problem(
                ("optimizer", name),
                f"{optimizer.name} has no argument {name!r}",
                closest(name, (*known, "lr", "name", "no_weight_decay")),
            )
        elif (wanted := _wanted_argument(name, optimizer.arguments[name])) is not None:
            yield Problem(("optimizer", name), f"{name} should be {wanted}")


def _wanted_argument(name: str, value: Any) -> str | None:
    """What torch would want instead of this value; None when it is right."""
    if name in _SWITCHES:
        return None if value is None or isinstance(value, bool) else "true or false"
    if name == "betas":
        is_pair = isinstance(value, tuple | list) and len(value) == 2
        is_right = is_pair and all(_is_number(beta) and 0 <= beta < 1 for beta in value)
        return None if is_right else "two numbers, each at least 0 and below 1"
    return None if _is_number(value) and value >= 0 else "a number, at least 0"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
