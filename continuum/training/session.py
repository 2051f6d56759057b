"""A training stage from its recipe to its last checkpoint: set up, recover, fit, publish."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Fabric
from torch import nn

from continuum.artifacts import TokenizedDataset, TrainingCheckpoint
from continuum.errors import PreflightError, StageFailedError
from continuum.files import link_or_copy
from continuum.recipe import Recipe, intervals_of
from continuum.stage import StageContext
from continuum.training.checkpoint import (
    Companions,
    newest_whole,
    read_checkpoint,
    retain,
    write_checkpoint,
)
from continuum.training.data import Blocks, Share, TrainingData, ValidationData
from continuum.training.fabric import Resolved, as_record, make_fabric, resolve
from continuum.training.litgpt import GPT, build_model, initialize_weights, load_weights
from continuum.training.loop import Task, fit
from continuum.training.metrics import MetricsLog
from continuum.training.order import SampleOrder
from continuum.training.schedule import learning_rate
from continuum.training.state import TrainingState, load_model


@dataclass(frozen=True)
class Origin:
    """What a training stage begins from."""

    model_config_fields: dict[str, Any]
    weights: Path | None = None
    """A folder whose weights are taken (`retrain`); counters and optimizer start anew."""
    state: Path | None = None
    """A training checkpoint whose full state goes on (`resume`)."""
    tokens_before: int = 0
    """Training tokens behind `weights`."""
    parent: str | None = None
    """Digest of what `weights` or `state` is."""


def train(ctx: StageContext, recipe: Recipe, origin: Origin) -> TrainingCheckpoint:
    """Carry a training stage out, from its newest whole checkpoint if it has any."""
    resolved = resolve(recipe, ctx.run.resolved())
    ctx.run.keep_resolved(as_record(resolved))
    fabric = make_fabric(resolved)
    fabric.seed_everything(ctx.seed, verbose=False)

    datasets = {str(ref): _dataset(ctx, ref) for ref in recipe.data}
    share = Share(fabric.global_rank, fabric.world_size, recipe.runtime.micro_batch_size)
    data = _training_data(ctx, recipe, datasets, share)
    state = _fresh_state(fabric, recipe, origin, resolved)
    log = MetricsLog(ctx.run, attempt=ctx.run.num_attempts, loggers=recipe.runtime.loggers)

    companions = Companions(
        tokenizer_dir=next(iter(datasets.values())).path / "tokenizer",
        model_config_fields=origin.model_config_fields,
        recipe=recipe.model_dump(mode="json", exclude_none=True),
        vocabulary_digest=next(iter(datasets.values())).vocabulary_digest,
        parent=origin.parent,
        world_size=fabric.world_size,
    )
    start_step, start_lr = _take_up(ctx, state, origin, log)
    num_blocks = sum(d.train.num_blocks(recipe.sequence_length) for d in datasets.values())
    num_steps = recipe.num_steps(num_blocks)
    assert num_steps is not None
    task = _task(ctx, recipe, datasets, data, share, num_steps, start_step, start_lr)
    save = partial(_save, ctx, recipe, companions)
    with closing(log):
        fit(fabric, state, task, log=log, save=save, report=ctx.report, should_stop=ctx.should_stop)
    if state.step != num_steps:
        raise StageFailedError(
            f"took {state.step:,} optimizer steps where the plan has {num_steps:,}"
        )
    return _final_artifact(ctx, companions)


def _dataset(ctx: StageContext, ref: str) -> TokenizedDataset:
    dataset = ctx.inputs[ref]
    assert isinstance(dataset, TokenizedDataset)
    return dataset


def _training_data(
    ctx: StageContext, recipe: Recipe, datasets: dict[str, TokenizedDataset], share: Share
) -> TrainingData:
    sources = [Blocks(d.path / "train", recipe.sequence_length) for d in datasets.values()]
    for name, source, dataset in zip(datasets, sources, datasets.values(), strict=True):
        expected = dataset.train.num_blocks(recipe.sequence_length)
        if len(source) != expected or not expected:
            raise PreflightError(
                f"{name}: {len(source):,} training blocks of {recipe.sequence_length:,} tokens "
                f"on disk, {expected:,} in the record; at least one is needed"
            )
    order = SampleOrder(ctx.seed, tuple(len(s) for s in sources), tuple(recipe.data.values()))
    return TrainingData(sources, order, recipe.global_batch_size, share)


def _fresh_state(
    fabric: Fabric, recipe: Recipe, origin: Origin, resolved: Resolved
) -> TrainingState:
    model = build_model(fabric, origin.model_config_fields, recipe.sequence_length)
    if origin.weights is None and origin.state is None:
        initialize_weights(fabric, model, n_layer=model.config.n_layer, n_embd=model.config.n_embd)
    wrapped, optimizer = _set_up(fabric, model, recipe, resolved)
    return TrainingState(wrapped, optimizer, tokens_before=origin.tokens_before)


def _set_up(
    fabric: Fabric, model: GPT, recipe: Recipe, resolved: Resolved
) -> tuple[nn.Module, torch.optim.Optimizer]:
    compiled = torch.compile(model) if resolved.compile else model
    wrapped = fabric.setup(compiled)  # type: ignore[arg-type]  # a compiled module is a module
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in recipe.optimizer.arguments.items()
    }
    cls = getattr(torch.optim, recipe.optimizer.name)
    try:
        optimizer = cls(wrapped.parameters(), lr=recipe.optimizer.lr, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PreflightError(
            f"optimizer: torch's {recipe.optimizer.name} does not take these arguments: {error}"
        ) from error
    prepared: Any = fabric.setup_optimizers(optimizer)
    return wrapped, prepared


def _take_up(
    ctx: StageContext, state: TrainingState, origin: Origin, log: MetricsLog
) -> tuple[int, float]:
    """Bring `state` to where the work goes on; returns the first step and rate of the stage."""
    start_step, start_lr = 0, 0.0
    if origin.weights is not None:
        load_model(state.model, load_weights(origin.weights))
    if origin.state is not None:
        state.restore(read_checkpoint(origin.state))
        start_step, start_lr = state.step, state.learning_rate
    newest, passed_over = newest_whole(ctx.run)
    for message in passed_over:
        ctx.report({"event": "warning", "message": message})
    if newest is not None:
        state.restore(read_checkpoint(newest.path))
        ctx.report({"event": "recovered", "step": state.step})
    log.continue_from(state.step)
    return start_step, start_lr


def _task(
    ctx: StageContext,
    recipe: Recipe,
    datasets: dict[str, TokenizedDataset],
    data: TrainingData,
    share: Share,
    num_steps: int,
    start_step: int,
    start_lr: float,
) -> Task:
    intervals = intervals_of(recipe, num_steps)
    validation = {}
    if recipe.evaluate is not None:
        validation = {
            name: ValidationData(
                Blocks(dataset.path / "validation", recipe.sequence_length),
                recipe.evaluate.batches,
                share,
            )
            for name, dataset in datasets.items()
            if dataset.validation is not None
            and dataset.validation.num_blocks(recipe.sequence_length)
        }
    return Task(
        num_steps=num_steps,
        tokens_per_step=recipe.tokens_per_step,
        rate=learning_rate(recipe, num_steps, start_step=start_step, start_lr=start_lr),
        max_norm=recipe.max_norm,
        log_every=recipe.runtime.log_every,
        evaluate_every=intervals.evaluate_every,
        checkpoint_every=intervals.checkpoint_every,
        save_steps=frozenset(ctx.save_steps),
        data=data,
        validation=validation,
        evaluate_final=recipe.evaluate is not None and recipe.evaluate.final,
    )


def _save(ctx: StageContext, recipe: Recipe, companions: Companions, state: TrainingState) -> None:
    write_checkpoint(ctx.run, state.snapshot(), companions)
    ctx.report({"event": "saved", "step": state.step})
    keep_last = recipe.runtime.checkpoint.keep_last
    for deleted in retain(ctx.run, keep_last=keep_last, keep_steps=ctx.save_steps):
        ctx.run.log_attempt(
            "checkpoint_deleted", step=deleted.manifest.step, digest=deleted.manifest.digest
        )


def _final_artifact(ctx: StageContext, companions: Companions) -> TrainingCheckpoint:
    final = ctx.run.checkpoints()[-1]
    for file in (*final.manifest.files,):
        link_or_copy(final.path / file.path, ctx.output_dir / file.path)
    return TrainingCheckpoint(
        path=ctx.output_dir,
        files=final.manifest.files,
        step=final.manifest.step,
        tokens_seen=final.manifest.tokens_seen,
        tokens_total=final.manifest.tokens_total,
        vocabulary_digest=companions.vocabulary_digest,
        model_config_fields=companions.model_config_fields,
        metrics=final.manifest.metrics,
    )
