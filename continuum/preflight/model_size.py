"""How large a model's training state is: from its parameters, its precision and its optimizer."""

from dataclasses import dataclass

from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import Recipe


@dataclass(frozen=True)
class StateSize:
    """Bytes of the whole state, over all processes that share it."""

    num_parameters: int
    weights_bytes: int
    gradients_bytes: int
    moments_bytes: int
    """What the optimizer keeps for each parameter, Adam's two moments."""

    @property
    def checkpoint_bytes(self) -> int:
        """Of a training checkpoint: weights and optimizer."""
        return self.weights_bytes + self.moments_bytes


def bytes_per_parameter(precision: str) -> int:
    """Of the stored weights: with `-mixed` they stay in fp32, and `auto` takes no other."""
    return 2 if precision == "bf16-true" else 4


def state_size(
    recipe: Recipe, architecture: Architecture | None, precision: str | None = None
) -> StateSize | None:
    """The training state of a model under a recipe; None when its parameters are not known.

    Gradients and moments have the type of the weights, in torch as in Fabric's precisions.

    Args:
        precision: The recipe's, once `auto` is resolved; either gives the same sizes.
    """
    num_parameters = architecture.num_parameters() if architecture else None
    if num_parameters is None:
        return None
    weights = num_parameters * bytes_per_parameter(precision or recipe.precision)
    return StateSize(num_parameters, weights, weights, weights * recipe.optimizer.num_moments)


def outer_and_block(architecture: Architecture, num_parameters: int) -> tuple[int, int]:
    """Parameters of embedding and output layer, and of one transformer block."""
    outer = (2 - architecture.tied) * architecture.embedding_size
    return outer, (num_parameters - outer) // int(architecture.fields["n_layer"])
