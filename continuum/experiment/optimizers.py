"""torch's optimizers, described without importing torch: a model for each, made from a table."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, create_model
from pydantic_core import PydanticCustomError

from continuum.errors import Problem
from continuum.experiment.fields import canonicalize
from continuum.experiment.one_of import OneOf

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
"""The supported optimizers of torch.optim, with their arguments; a test compares them with torch.

LBFGS requires a closure, SparseAdam sparse gradients, and Muon matrices only.
"""
_MOMENTS = {
    "AdamW": 2, "Adam": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2,
    "Adagrad": 1, "Adadelta": 2, "RMSprop": 1, "SGD": 0,
}  # fmt: skip
"""Number of state tensors per parameter; a test compares it with torch."""
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
"""torch's defaults of numbers; a test compares them with torch. Switches are off by default, and
`foreach` and `fused` are undecided."""
_UNDECIDED = ("foreach", "fused")
"""Switches that are neither on nor off by default."""
_ONE_MORE = ("amsgrad", "centered", "momentum")
"""Arguments that add a state tensor."""
SWITCHES = (
    "foreach", "maximize", "differentiable", "capturable", "amsgrad", "fused",
    "decoupled_weight_decay", "centered", "nesterov",
)  # fmt: skip
"""Boolean arguments; the others are numbers of at least zero."""
_MEANINGS = {
    "betas": "Decay of the running averages of the gradient and of its square.",
    "eps": "Added to the denominator, for numerical stability.",
    "weight_decay": "Weight decay: decoupled from the gradient in AdamW, else an L2 penalty.",
    "amsgrad": "Use the AMSGrad variant.",
    "momentum": "Momentum factor.",
    "dampening": "Dampening of the momentum.",
    "nesterov": "Use Nesterov momentum.",
    "alpha": "Decay of the running average of the squared gradient.",
    "centered": "Normalize by an estimate of the gradient's variance.",
    "rho": "Decay of the running average of the squared gradient.",
    "lr_decay": "Decay of the learning rate, beside the schedule.",
    "initial_accumulator_value": "Initial sum of squared gradients.",
    "momentum_decay": "Decay of the momentum.",
    "decoupled_weight_decay": "Decouple the weight decay from the gradient, as AdamW does.",
    "foreach": "Compute on lists of tensors: faster, more memory.",
    "fused": "Use torch's fused kernel, if available.",
    "maximize": "Maximize the loss instead of minimizing it.",
    "differentiable": "Differentiate through the optimizer step; not supported here.",
    "capturable": "Allow capture in a CUDA graph.",
}


class Optimizer(OneOf):
    """A torch optimizer: its name, learning rate and other arguments."""

    name: str = "AdamW"
    """A class in `torch.optim`."""
    lr: float = Field(gt=0, allow_inf_nan=False, examples=[3e-4, 1e-5])
    """The peak learning rate. Required, because torch's default of 1e-3 ruins a pretrained
    model."""
    no_weight_decay: tuple[Literal["norms", "biases", "embeddings"], ...] | None = Field(
        None, examples=[["norms", "biases"]]
    )
    """Parameters exempt from `weight_decay`; null decays all, as LitGPT does."""

    chosen_by: ClassVar[str] = "name"

    @classmethod
    @cache
    def forms(cls) -> Mapping[str, type["Optimizer"]]:
        return {name: _form(name, known) for name, known in OPTIMIZER_ARGUMENTS.items()}

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for torch besides the learning rate, without defaults.

        Numbers are floats, because torch stores them in checkpoints as given.
        """
        usual = OPTIMIZER_DEFAULTS[self.name]
        given = {name: getattr(self, name) for name in OPTIMIZER_ARGUMENTS[self.name]}
        return {
            name: value
            for name, value in given.items()
            if value is not None
            and value != usual.get(name)
            and not (value is False and name not in _UNDECIDED)
        }

    @property
    def num_moments(self) -> int:
        """Number of state tensors that the optimizer keeps per parameter."""
        return _MOMENTS[self.name] + sum(bool(self.arguments.get(name)) for name in _ONE_MORE)

    def identity(self) -> dict[str, Any]:
        exempt = {"no_weight_decay": sorted(set(self.no_weight_decay or ()))}
        found = {"name": self.name, "lr": self.lr, **exempt, **canonicalize(self.arguments)}
        return {name: value for name, value in found.items() if value != []}


def _form(name: str, arguments: tuple[str, ...]) -> type[Optimizer]:
    fields: dict[str, Any] = {argument: _argument(argument) for argument in arguments}
    fields["name"] = (Literal[name], name)
    return create_model(name, __base__=Optimizer, __module__=__name__, **fields)


def _argument(name: str) -> tuple[Any, Any]:
    described: dict[str, Any] = {"description": _MEANINGS[name]}
    if name == "differentiable":
        return Annotated[bool | None, AfterValidator(_no_gradients)], Field(None, **described)
    if name in SWITCHES:
        return bool | None, Field(None, **described)
    if name == "betas":
        beta = Annotated[float, Field(ge=0, lt=1)]
        pair = Field(None, min_length=2, max_length=2, examples=[(0.9, 0.95)], **described)
        return tuple[beta, ...], pair
    return float, Field(None, ge=0, le=1 if name == "rho" else None, **described)


def _no_gradients(value: bool | None) -> bool | None:
    if value:
        message = "must be false: differentiating through a step is not supported"
        raise PydanticCustomError("differentiable", message, {"suggestion": "false"})
    return value


def optimizer_problems(optimizer: Optimizer) -> Iterator[Problem]:
    """Errors of arguments that torch does not accept together."""
    given = optimizer.arguments
    if given.get("foreach") and given.get("fused"):
        message = "fused and foreach are mutually exclusive; keep one of them"
        yield Problem(("optimizer", "fused"), message)
    if given.get("nesterov") and not given.get("momentum"):
        message = "nesterov requires a momentum above 0, such as 0.9"
        yield Problem(("optimizer", "nesterov"), message)
    elif given.get("nesterov") and given.get("dampening"):
        yield Problem(("optimizer", "dampening"), "nesterov requires dampening 0", "0")
