"""torch's optimizers, described without torch: their names, their arguments, what is wrong."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field

from continuum.fields import Spec, with_one_spelling
from continuum.spelling import closest
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
_MOMENTS = {
    "AdamW": 2, "Adam": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2,
    "Adagrad": 1, "Adadelta": 2, "RMSprop": 1, "SGD": 0,
}  # fmt: skip
"""Tensors of a parameter's size that each keeps; a test compares with torch."""
_BETAS = {"betas": (0.9, 0.999)}
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {
    "AdamW": {**_BETAS, "eps": 1e-8, "weight_decay": 1e-2},
    "Adam": {**_BETAS, "eps": 1e-8, "weight_decay": 0.0},
    "NAdam": {**_BETAS, "eps": 1e-8, "weight_decay": 0.0, "momentum_decay": 4e-3},
    "RAdam": {**_BETAS, "eps": 1e-8, "weight_decay": 0.0},
    "Adamax": {**_BETAS, "eps": 1e-8, "weight_decay": 0.0},
    "Adagrad": {
        "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, "weight_decay": 0.0,
    },
    "Adadelta": {"rho": 0.9, "eps": 1e-6, "weight_decay": 0.0},
    "RMSprop": {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0},
    "SGD": {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0},
}  # fmt: skip
"""What torch takes for the numbers that are not given; a test compares with torch. Its switches
are off, `foreach` and `fused` undecided."""
_UNDECIDED = ("foreach", "fused")
"""Switches that are neither on nor off unless they are given."""
_ONE_MORE = ("amsgrad", "centered", "momentum")
"""Arguments that make it keep another."""
SWITCHES = (
    "foreach", "maximize", "differentiable", "capturable", "amsgrad", "fused",
    "decoupled_weight_decay", "centered", "nesterov",
)  # fmt: skip
"""Those of them that are true or false."""
_SHARES = ("rho",)
"""Those that torch wants to be one at most."""


_MEANINGS = {
    "betas": "Decay of the running averages of the gradient and of its square.",
    "eps": "Added to the denominator, for numerical stability.",
    "weight_decay": "Weight decay: decoupled from the gradient in AdamW, else an L2 penalty.",
    "amsgrad": "Use the AMSGrad variant.",
    "momentum": "Share of the last update in the next.",
    "dampening": "Dampening of the momentum.",
    "nesterov": "Use Nesterov momentum.",
    "alpha": "Decay of the running average of the squared gradient.",
    "centered": "Normalise by an estimate of the gradient's variance.",
    "rho": "Decay of the running average of the squared gradient.",
    "lr_decay": "Decay of the learning rate, beside the schedule.",
    "initial_accumulator_value": "Where the sum of squared gradients starts.",
    "momentum_decay": "Decay of the momentum.",
    "decoupled_weight_decay": "Decouple the weight decay from the gradient, as AdamW does.",
    "foreach": "Compute on lists of tensors: faster, more memory.",
    "fused": "Use torch's fused kernel, where there is one.",
    "maximize": "Maximize the loss instead of minimizing it.",
    "differentiable": "Let gradients pass through the optimizer's step; nothing here asks for it.",
    "capturable": "Allow capture in a CUDA graph.",
}
"""What the arguments mean, for the JSON Schema and `continuum explain`."""


def _describe_arguments(schema: dict[str, Any]) -> None:
    """Add torch's arguments to the JSON Schema of an optimizer, none of them for all optimizers."""
    for name, meaning in _MEANINGS.items():
        users = [optimizer for optimizer, known in OPTIMIZER_ARGUMENTS.items() if name in known]
        everyone = len(users) == len(OPTIMIZER_ARGUMENTS)
        argument = _argument_schema(name)
        argument["description"] = meaning if everyone else f"{meaning} Of {', '.join(users)}."
        schema["properties"][name] = argument
    schema["additionalProperties"] = False


def _argument_schema(name: str) -> dict[str, Any]:
    """The values that `_wanted_argument` accepts."""
    if name == "differentiable":
        return {"type": ["boolean", "null"], "not": {"const": True}}
    if name in SWITCHES:
        return {"type": ["boolean", "null"]}
    if name == "betas":
        beta = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
        pair = {"type": "array", "items": beta, "minItems": 2, "maxItems": 2}
        return {**pair, "examples": [[0.9, 0.95]]}
    return {"type": "number", "minimum": 0, **({"maximum": 1} if name in _SHARES else {})}


class Optimizer(Spec):
    """A torch optimizer: its name, its learning rate, and its own arguments."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_describe_arguments)

    name: str = Field("AdamW", json_schema_extra={"enum": list(OPTIMIZER_ARGUMENTS)})
    """A class in `torch.optim`."""
    lr: float = Field(gt=0, allow_inf_nan=False, examples=[3e-4, 1e-5])
    """The peak learning rate. Required: torch's 1e-3 ruins a pretrained model."""
    no_weight_decay: tuple[Literal["norms", "biases", "embeddings"], ...] | None = None
    """Parameters that `weight_decay` leaves alone; null decays all, as LitGPT does."""

    @property
    def given(self) -> dict[str, Any]:
        """The arguments as they are written, right or wrong."""
        return dict(self.model_extra or {})

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for torch besides the learning rate, without those that it takes anyway.

        Numbers are floats, as torch keeps what it is given among a checkpoint's bytes.
        """
        given = {name: _as_floats(name, value) for name, value in self.given.items()}
        usual = OPTIMIZER_DEFAULTS.get(self.name, {})
        return {
            name: value
            for name, value in given.items()
            if value is not None
            and value != usual.get(name)
            and not (value is False and name not in _UNDECIDED)
        }

    @property
    def num_moments(self) -> int:
        """Tensors of a parameter's size that the optimizer keeps for each parameter."""
        return _MOMENTS[self.name] + sum(bool(self.arguments.get(name)) for name in _ONE_MORE)

    def identity(self) -> dict[str, Any]:
        exempt = {"no_weight_decay": sorted(set(self.no_weight_decay or ()))}
        found = {**super().identity(), **exempt, **with_one_spelling(self.arguments)}
        return {name: value for name, value in found.items() if value != []}


def optimizer_problems(optimizer: Optimizer) -> Iterator[Problem]:
    known = OPTIMIZER_ARGUMENTS.get(optimizer.name)
    if known is None:
        yield Problem(
            ("optimizer", "name"),
            f"unknown optimizer {optimizer.name!r}",
            closest(optimizer.name, OPTIMIZER_ARGUMENTS),
        )
        return
    for name in optimizer.given:
        if name not in known:
            yield Problem(
                ("optimizer", name),
                f"{optimizer.name} has no argument {name!r}",
                closest(name, (*known, "lr", "name", "no_weight_decay")),
            )
        elif (wanted := _wanted_argument(name, optimizer.given[name])) is not None:
            yield Problem(("optimizer", name), f"{name} should be {wanted}")
    given = {name: value for name, value in optimizer.given.items() if name in known}
    yield from _combination_problems(given)


def _combination_problems(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """Arguments, each right by itself, that torch refuses together, or in this loop."""

    def is_on(name: str) -> bool:
        return arguments.get(name) is True

    if is_on("differentiable"):
        yield Problem(
            ("optimizer", "differentiable"),
            "differentiable should be false: nothing here takes gradients through a step, and "
            "torch then fails at the first",
            "false",
        )
    if is_on("foreach") and is_on("fused"):
        yield Problem(
            ("optimizer", "fused"), "fused and foreach are two ways to compute; keep one of them"
        )
    if is_on("nesterov") and not _is_above_zero(arguments.get("momentum")):
        yield Problem(("optimizer", "nesterov"), "nesterov needs a momentum above 0, such as 0.9")
    elif is_on("nesterov") and _is_above_zero(arguments.get("dampening")):
        yield Problem(("optimizer", "dampening"), "nesterov momentum allows no dampening", "0")


def _wanted_argument(name: str, value: Any) -> str | None:
    """What torch would want instead of this value; None when it is right."""
    if name in SWITCHES:
        return None if value is None or isinstance(value, bool) else "true or false"
    if name == "betas":
        is_pair = isinstance(value, tuple | list) and len(value) == 2
        is_right = is_pair and all(_is_number(beta) and 0 <= beta < 1 for beta in value)
        return None if is_right else "two numbers, each at least 0 and below 1"
    if name in _SHARES:
        return None if _is_number(value) and 0 <= value <= 1 else "a number from 0 to 1"
    return None if _is_number(value) and value >= 0 else "a number, at least 0"


def _as_floats(name: str, value: Any) -> Any:
    """A number as a float and a list as a tuple of them, as torch's own defaults are."""
    if name in SWITCHES:
        return value
    if isinstance(value, tuple | list):
        return tuple(float(item) if _is_number(item) else item for item in value)
    return float(value) if _is_number(value) else value


def _is_above_zero(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
