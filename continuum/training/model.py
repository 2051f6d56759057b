"""Build a model and its optimizer: initialize, recompute activations, compile, wrap, shard.

torch.compile makes one graph for each batch size, never a graph for dynamic sizes. By default it
switches to dynamic sizes at the second size it sees, so the result of a step would depend on
earlier ones: if a resumed run first has to repeat an evaluation, its training graph would differ
from that of the uninterrupted run, and so would the last bits.

Activation checkpointing recomputes parts of a block in the backward pass instead of storing them.
`full` stores the input of each block (Chen et al. 2016, arXiv:1604.06174). `selective` also stores
the inputs and output of attention: the block's first product, which is the joint projection of
queries, keys and values, and the output of the attention kernel. It then recomputes norms,
rotations and most of the MLP: about a ninth of a step's operations, against a fifth with `full`,
since neither needs the block's last product again.

torch's non-reentrant checkpoint stops as soon as it has what the backward pass asks for, works
inside FSDP2's hooks, under DDP and in a compiled graph, and restores autocast. The same operations
run on the same numbers, so losses and gradients are bit-identical to a run without it wherever
kernels are deterministic. LitGPT's GPT has no dropout, so no random state is stored.
"""

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning import Fabric
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from continuum.errors import PreflightError
from continuum.experiment.recipe import Recipe
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
from continuum.training.weights import HEAD, has_tied_embeddings, strip_wrapping, tie_embeddings

ATTENTION = frozenset(
    packet.default
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_fused_attention_overrideable",
    )
    if (packet := getattr(torch.ops.aten, name, None)) is not None
)
"""Kernels of scaled_dot_product_attention that do not store scores."""
PRODUCTS = frozenset({torch.ops.aten.mm.default, torch.ops.aten.addmm.default})


def make_state(
    fabric: Fabric,
    recipe: Recipe,
    fields: dict[str, Any],
    resolved: Resolved,
    *,
    seed: int | None,
    tied: bool = False,
) -> TrainingState:
    """Build model and optimizer for the strategy, at step zero.

    Args:
        fields: LitGPT's `Config` as a dictionary.
        seed: Of the initial weights; None if they are loaded next.
        tied: Whether embedding and output layer are one tensor. It is initialized like the
            embedding; all other weights are as in the untied model.
    """
    has_compiled_head = resolved.loss_head == "compiled"
    model = build_model(fabric, fields, recipe.sequence_length, has_compiled_head=has_compiled_head)
    is_sharded = resolved.strategy == "fsdp"
    if seed is not None and not is_sharded:
        # Seed again, since building the model may have drawn random numbers.
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
            f"optimizer: torch's {recipe.optimizer.name} rejects these arguments: {error}"
        ) from error
    prepared: Any = fabric.setup_optimizers(optimizer)
    return wrapped, prepared


def _can_be_fused(fabric: Fabric, optimizer: type[torch.optim.Optimizer]) -> bool:
    """Whether to use the fused optimizer: on a GPU, unless the loss is scaled.

    Fabric refuses to clip gradients that a fused optimizer would unscale. On a CPU the step takes
    2 % of the time, and stays bit-identical to LitGPT's.
    """
    has_fused = "fused" in inspect.signature(optimizer).parameters
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    return has_fused and fabric.device.type == "cuda" and scaler is None


def compiled(model: nn.Module, backend: Any = "inductor") -> nn.Module:
    """The model, compiled once for each batch size."""
    made: Any = torch.compile(model, backend=backend, dynamic=False)
    assert isinstance(made, nn.Module)
    return made


@contextmanager
def eagerly() -> Iterator[None]:
    """Neither compile nor use compiled code in this context."""
    with torch.compiler.set_stance("force_eager"):
        yield


def next_token_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of the model's predictions after `inputs` (B, T).

    With a `LossHead` the model returns the loss from its one forward pass, which is what DDP and
    FSDP2 wrap; otherwise it returns all logits.

    Args:
        targets: The next tokens, (B, T).
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
        exempt: From weight decay: some of `norms`, `biases`, `embeddings`.
    """
    exempt = set(exempt)
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        target = undecayed if kind_of(strip_wrapping(name)) in exempt else decayed
        target.append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}]
    return [*groups, {"params": undecayed, "weight_decay": 0.0}] if undecayed else groups


def kind_of(name: str) -> str:
    """`norms`, `biases`, `embeddings` or `matrices`, by a parameter's name in LitGPT's `GPT`."""
    parts = name.split(".")
    if any("norm" in part or part == "ln_f" for part in parts):
        return "norms"
    if parts[-1] == "bias":
        return "biases"
    return "embeddings" if "wte" in parts else "matrices"


def initialize_shards(fabric: Fabric, model: nn.Module, template: GPT, seed: int) -> None:
    """Initialize a sharded model as `initialize_weights` would initialize `template`.

    Args:
        template: The same model, unsharded, on the meta device.

    Raises:
        PreflightError: LitGPT does not define the initialization of a module.
    """
    config = template.config
    # On the meta device this draws nothing; it sets each module's `reset_parameters`.
    initialize_weights(fabric, template, n_layer=config.n_layer, n_embd=config.n_embd)
    fabric.seed_everything(seed, verbose=False)
    core = unwrap(model)
    shards = dict(core.named_parameters())
    with torch.no_grad():
        for name, full in _initial_values(template, fabric.device):
            if name == HEAD and has_tied_embeddings(core):
                continue  # initialized as the embedding
            shard = shards[name]
            assert isinstance(shard, DTensor)
            # Each process has the full tensor and takes its own part.
            mesh, placements = shard.device_mesh, shard.placements
            shard.copy_(distribute_tensor(full, mesh, placements, src_data_rank=None))


def _initial_values(template: GPT, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Each parameter's name and initial values, in the order of LitGPT's initialization."""
    for path, module in template.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        reset = getattr(module, "reset_parameters", None)
        if not callable(reset):
            raise PreflightError(
                f"LitGPT does not define how to initialize {type(module).__name__} ({path}), so "
                "this model cannot be pretrained with strategy fsdp; retrain from its weights"
            )
        module.to_empty(device=device, recurse=False)
        reset()
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{path}.{name}", parameter.detach()
        module.to_empty(device="meta", recurse=False)


def checkpoint_activations(model: GPT, mode: str) -> None:
    """Make each transformer block recompute its activations in the backward pass.

    Names of modules and parameters do not change.

    Args:
        mode: `off`, `selective` or `full`.
    """
    if mode == "off":
        return
    options = {"context_fn": _storing_attention} if mode == "selective" else {}
    for block in model.transformer.h:
        # On the instance: FSDP2 replaces the block's class, and its hooks wrap this.
        block.forward = partial(_checkpointed_forward, block, **options)


def _checkpointed_forward(block: nn.Module, *inputs: Any, **options: Any) -> Any:
    forward = type(block).forward
    return checkpoint(
        forward, block, *inputs, use_reentrant=False, preserve_rng_state=False, **options
    )


def _storing_attention() -> tuple[Any, Any]:
    """Contexts for a block's forward pass and for its recomputation."""
    products: Counter[bool] = Counter()

    def policy(
        ctx: SelectiveCheckpointContext, operation: Any, *_: Any, **__: Any
    ) -> CheckpointPolicy:
        is_first = operation in PRODUCTS and not products[ctx.is_recompute]
        products[ctx.is_recompute] += operation in PRODUCTS
        if is_first or operation in ATTENTION:
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    create: Any = create_selective_checkpoint_contexts
    contexts: tuple[Any, Any] = create(policy)
    return contexts
