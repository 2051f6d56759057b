"""What training needs before its first step: data, model, optimizer, the state to go on from."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Fabric
from torch import nn

from continuum.artifacts import TokenizedDataset
from continuum.errors import PreflightError
from continuum.events import Recovered
from continuum.preflight.fitness import evaluation_problems
from continuum.recipe import Recipe, intervals_of
from continuum.stage import StageContext
from continuum.training.activation_checkpointing import checkpoint_activations
from continuum.training.checkpoint import put_aside, read_checkpoint
from continuum.training.compiling import compiled
from continuum.training.data import Share, TrainingData, ValidationData, open_split
from continuum.training.groups import parameter_groups
from continuum.training.initial import initialize_shards
from continuum.training.litgpt import GPT, build_model, initialize_weights, set_rope_cache
from continuum.training.loop import Task
from continuum.training.numerics import changes
from continuum.training.positions import Part, Positions, order_of
from continuum.training.resolved import Resolved
from continuum.training.saving import tracked_metrics
from continuum.training.schedule import LearningRate
from continuum.training.shards import load_shards
from continuum.training.state import TrainingState, is_sharded, unwrap
from continuum.training.tied import tie_embeddings
from continuum.training.verification import newest_verified
from continuum.training.weights import SHARDS_DIR

Datasets = dict[str, TokenizedDataset]
TOLD_BY_EVERY_MANIFEST = ("world_size", "micro_batch_size", "strategy")
"""Also by one of an earlier release, which has no `resolved`."""


def open_datasets(ctx: StageContext, recipe: Recipe) -> Datasets:
    """The recipe's datasets by reference, in its order, then those it only evaluates."""
    datasets: Datasets = {}
    for ref in recipe.all_data:
        dataset = ctx.inputs[str(ref)]
        assert isinstance(dataset, TokenizedDataset)
        datasets[str(ref)] = dataset
    return datasets


def training_data(
    parts: list[Part], recipe: Recipe, starts: Positions, share: Share
) -> TrainingData:
    """The training batches of this process.

    Args:
        starts: Where each dataset is read from at step 0.

    Raises:
        PreflightError: there are other blocks on disk than in the record, or none.
    """
    length = recipe.sequence_length
    data = [(part.ref, part.dataset) for part in parts]
    sources = [open_split(dataset, "train", length, ref) for ref, dataset in data]
    for part, source in zip(parts, sources, strict=True):
        if len(source) != part.num_blocks or not part.num_blocks:
            raise PreflightError(
                f"{part.ref}: {len(source):,} training blocks of {length:,} tokens "
                f"on disk, {part.num_blocks:,} in the record; at least one is needed"
            )
    assert recipe.data_seed is not None, "the planner fills it in"
    order = order_of(parts, recipe.data_seed, starts)
    return TrainingData(sources, order, recipe.global_batch_size, share)


def validation_data(
    recipe: Recipe, datasets: Datasets, share: Share, rows: int
) -> dict[str, ValidationData]:
    """The validation batches of this process by dataset; empty when nothing is evaluated.

    Args:
        rows: Sequences in a batch.

    Raises:
        PreflightError: a dataset has no validation block.
    """
    if recipe.evaluate is None:
        return {}
    found = {}
    for name, dataset in datasets.items():
        split = dataset.validation
        has_blocks = split is not None and split.num_blocks(recipe.sequence_length) > 0
        length = recipe.sequence_length
        source = open_split(dataset, "validation", length, name) if has_blocks else None
        for problem in evaluation_problems(recipe, name, len(source) if source else 0):
            raise PreflightError(str(problem))
        assert source is not None, "a split without blocks is a problem"
        found[name] = ValidationData(
            source,
            recipe.evaluate.num_sequences(len(source), length),
            rows=rows,
            rank=share.rank,
            world_size=share.world_size,
        )
    return found


def make_task(
    ctx: StageContext,
    recipe: Recipe,
    num_steps: int,
    rate: LearningRate,
    data: TrainingData,
    validation: dict[str, ValidationData],
    start_step: int,
    resolved: Resolved,
) -> Task:
    """What the loop is to do, from the step that the stage begins from."""
    intervals = intervals_of(recipe, num_steps)
    return Task(
        num_steps=num_steps,
        tokens_per_step=recipe.tokens_per_step,
        rate=rate,
        max_norm=recipe.max_norm,
        log_every=recipe.runtime.log_every,
        evaluate_every=intervals.evaluate_every,
        checkpoint_every=intervals.checkpoint_every,
        save_steps=frozenset(ctx.record.save_steps),
        data=data,
        validation=validation,
        evaluate_final=recipe.evaluate is not None and recipe.evaluate.final,
        start_step=start_step,
        checkpoint_minutes=recipe.runtime.checkpoint.minutes,
        skips_nonfinite=recipe.on_nonfinite == "skip",
        best_metrics=tracked_metrics(ctx, recipe),
        logs_late=resolved.accelerator == "cuda",
        # DDP's buckets hold whole gradients anyway; FSDP2 would hold them beside its shards.
        reduces_once=resolved.strategy != "fsdp" or resolved.accumulate_unsharded,
    )


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


def restore(fabric: Fabric, state: TrainingState, folder: Path) -> None:
    """Become the state in a checkpoint folder, whatever number of processes wrote it."""
    if (folder / SHARDS_DIR).is_dir() and is_sharded(state.model):
        load_shards(folder, state, rank=fabric.global_rank)
    else:
        state.restore(read_checkpoint(folder), rank=fabric.global_rank)


def inexactness(
    manifest: Mapping[str, Any], resolved: Resolved, found: Mapping[str, Any]
) -> Iterator[str]:
    """Why a run that goes on from a checkpoint need not come to the same bytes as one unbroken."""
    now = resolved.as_record()
    before = manifest["resolved"] or {key: manifest[key] for key in TOLD_BY_EVERY_MANIFEST}
    for key, value in before.items():
        if key in now and now[key] != value:
            yield f"{key} was {value} and is {now[key]}"
    yield from changes(manifest["numerics"], found)
    if resolved.accelerator == "cuda" and not resolved.deterministic:
        yield "a GPU promises no equal bytes without runtime.deterministic"


def recover(
    fabric: Fabric,
    ctx: StageContext,
    state: TrainingState,
    resolved: Resolved,
    found_here: Mapping[str, Any],
) -> bool:
    """Go on from the run's newest whole checkpoint, if it has one.

    Every byte is read first, and rank 0 decides; what was passed over, and whether the
    continuation is exact, is told and recorded.
    """
    found: tuple[str, dict[str, Any]] | None = None
    newest, passed_over = newest_verified(fabric, ctx.run)
    if fabric.is_global_zero:
        for name, message in passed_over.items():
            ctx.warn(message)
            ctx.run.log_attempt("checkpoint_passed_over", message=message)
            put_aside(ctx.run, name)
        if newest is not None:
            found = (newest.path.name, newest.manifest.model_dump(mode="json"))
    found = fabric.broadcast(found)
    if found is None:
        return False
    name, manifest = found
    restore(fabric, state, ctx.run.checkpoints_dir / name)
    state.metrics = dict(manifest["metrics"])
    if fabric.is_global_zero:
        why = list(inexactness(manifest, resolved, found_here))
        ctx.report(Recovered(state.step, exact=not why))
        ctx.run.log_attempt("recovered", step=state.step, exact=not why, why=why)
    return True
