"""A model ready to train, and its optimizer: built, begun, compiled, wrapped by the strategy.

torch.compile makes a graph for each size of batch, none for any size. Left to itself, it compiles
for any size from the second size on, and what a step computes would hang on what came before it: an
evaluation that a recovered run owes, before its first step, would make the graph of training
another one than the unbroken run's, with other last bits.
"""

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Fabric
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from continuum.errors import PreflightError
from continuum.experiment.recipe import Recipe
from continuum.training.activation_checkpointing import checkpoint_activations
from continuum.training.litgpt import (
    GPT,
    build_model,
    initialize_weights,
    loss_of_logits,
    set_rope_cache,
)
from continuum.training.loss_head import LossHead
from continuum.training.resolved import Resolved
from continuum.training.state import TrainingState, unwrap
from continuum.training.tied import has_tied_embeddings, tie_embeddings
from continuum.training.weights import HEAD, strip_wrapping


def make_state(
    fabric: Fabric,
    recipe: Recipe,
    fields: dict[str, Any],
    resolved: Resolved,
    *,
    seed: int | None,
    tied: bool = False,
) -> TrainingState:
    """Model and optimizer, set up for the strategy, at step zero.

    Args:
        fields: LitGPT's `Config` as a dictionary.
        seed: Of the weights' random start; None when they are loaded next.
        tied: Whether embedding and output layer are one tensor, which begins as the embedding
            does: all other weights are those of the untied start.
    """
    has_compiled_head = resolved.loss_head == "compiled"
    model = build_model(fabric, fields, recipe.sequence_length, has_compiled_head=has_compiled_head)
    is_sharded = resolved.strategy == "fsdp"
    if seed is not None and not is_sharded:
        # Again, since building the model may have drawn random numbers.
        fabric.seed_everything(seed, verbose=False)
        initialize_weights(fabric, model, n_layer=model.config.n_layer, n_embd=model.config.n_embd)
    if tied:
        tie_embeddings(model)
    checkpoint_activations(model, resolved.activation_checkpointing)
    wrapped, optimizer = _set_up(fabric, model, recipe, resolved)
    if seed is not None and is_sharded:
        template = build_model(fabric, fields, recipe.sequence_length)
        initialize_shards(fabric, wrapped, template, seed)
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return TrainingState(wrapped, optimizer, scaler=scaler)


def _set_up(
    fabric: Fabric, model: GPT, recipe: Recipe, resolved: Resolved
) -> tuple[nn.Module, torch.optim.Optimizer]:
    wrapped = fabric.setup(compiled(model) if resolved.compile else model)
    set_rope_cache(unwrap(wrapped))
    arguments = recipe.optimizer.arguments
    cls = getattr(torch.optim, recipe.optimizer.name)
    if _can_be_fused(fabric, cls) and not arguments.keys() & {"foreach", "differentiable"}:
        arguments = {"fused": True, **arguments}
    try:
        groups = parameter_groups(wrapped, recipe.optimizer.no_weight_decay or ())
        optimizer = cls(groups, lr=recipe.optimizer.lr, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PreflightError(
            f"optimizer: torch's {recipe.optimizer.name} does not take these arguments: {error}"
        ) from error
    prepared: Any = fabric.setup_optimizers(optimizer)
    return wrapped, prepared


def _can_be_fused(fabric: Fabric, optimizer: type[torch.optim.Optimizer]) -> bool:
    """Whether the optimizer is to step in one kernel: on a GPU, unless the loss is scaled.

    Fabric refuses to clip gradients that such an optimizer would unscale. On a CPU the step is 2 %
    of the time, and stays LitGPT's to the last bit.
    """
    is_known = "fused" in inspect.signature(optimizer).parameters
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return is_known and fabric.device.type == "cuda" and scaler is None


def compiled(model: nn.Module, backend: Any = "inductor") -> nn.Module:
    """The model, compiled anew for each size of batch."""
    made: Any = torch.compile(model, backend=backend, dynamic=False)
    assert isinstance(made, nn.Module)
    return made


@contextmanager
def eagerly() -> Iterator[None]:
    """A context in which nothing is compiled and nothing compiled is used."""
    with torch.compiler.set_stance("force_eager"):
        yield


def next_token_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of what the model predicts after `inputs` (B, T).

    Where its head can, the model gives the loss itself, in its one forward pass, which is what
    DDP and FSDP2 wrap; otherwise all its logits are held.

    Args:
        targets: The tokens that follow, (B, T).
    """
    head = getattr(unwrap(model), "lm_head", None)
    if not isinstance(head, LossHead):
        return loss_of_logits(model(inputs), targets)
    head.targets = targets
    try:
        loss: torch.Tensor = model(inputs)
    finally:
        head.targets = None
    return loss


def parameter_groups(model: nn.Module, exempt: Iterable[str]) -> list[dict[str, Any]]:
    """The trainable parameters in one group, or in two: with weight decay and without.

    Args:
        exempt: Of `norms`, `biases`, `embeddings`.
    """
    exempt = set(exempt)
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        target = spared if kind_of(strip_wrapping(name)) in exempt else decayed
        target.append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}]
    return [*groups, {"params": spared, "weight_decay": 0.0}] if spared else groups


def kind_of(name: str) -> str:
    """`norms`, `biases`, `embeddings` or `matrices`, by the names in LitGPT's `GPT`."""
    parts = name.split(".")
    if any("norm" in part or part == "ln_f" for part in parts):
        return "norms"
    if parts[-1] == "bias":
        return "biases"
    return "embeddings" if "wte" in parts else "matrices"


def initialize_shards(fabric: Fabric, model: nn.Module, template: GPT, seed: int) -> None:
    """Fill a sharded model as `initialize_weights` would fill `template` after this seed.

    Args:
        template: The same model, whole, on the meta device.

    Raises:
        PreflightError: LitGPT does not say how some part of this model begins.
    """
    config = template.config
    # On the meta device this draws nothing; it tells each module how its weights begin.
    initialize_weights(fabric, template, n_layer=config.n_layer, n_embd=config.n_embd)
    fabric.seed_everything(seed, verbose=False)
    core = unwrap(model)
    shards = dict(core.named_parameters())
    with torch.no_grad():
        for name, whole in _drawn(template, fabric.device):
            if name == HEAD and has_tied_embeddings(core):
                continue  # the embedding's values are the start of both
            shards[name].copy_(_as(shards[name], whole))


def _drawn(template: GPT, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Each parameter with its first values, in the order of LitGPT's `reset_parameters`."""
    for place, module in template.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        reset = getattr(module, "reset_parameters", None)
        if not callable(reset):
            raise PreflightError(
                f"LitGPT does not say how the weights of {type(module).__name__} ({place}) begin: "
                "this model cannot be pretrained with strategy fsdp; retrain from its weights"
            )
        module.to_empty(device=device, recurse=False)
        reset()
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{place}.{name}", parameter.detach()
        module.to_empty(device="meta", recurse=False)


def _as(parameter: nn.Parameter, whole: torch.Tensor) -> torch.Tensor:
    """The whole tensor, sharded as the parameter is, by each process for itself."""
    assert isinstance(parameter, DTensor)
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(whole, mesh, placements, src_data_rank=None)
