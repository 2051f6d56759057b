"""A training stage from its recipe to its last checkpoint: set up, recover, fit, publish."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Fabric

from continuum.architecture import Architecture
from continuum.artifacts import TrainingCheckpoint
from continuum.best import without_notes
from continuum.errors import StageFailedError
from continuum.files import link_or_copy
from continuum.recipe import Recipe, intervals_of
from continuum.records import saved_checkpoint
from continuum.stage import StageContext
from continuum.training.checkpoint import Companions, discard_damaged
from continuum.training.data import Share
from continuum.training.fabric import Resolved, as_record, make_fabric, resolve
from continuum.training.guards import DivergedError
from continuum.training.loop import Task, fit
from continuum.training.memory import keep_freed_memory, memory_warnings
from continuum.training.metrics import MetricsLog
from continuum.training.numerics import numerics
from continuum.training.saving import Saver
from continuum.training.schedule import learning_rate
from continuum.training.setup import (
    Datasets,
    make_state,
    make_task,
    open_datasets,
    recover,
    restore,
    training_data,
    validation_data,
)
from continuum.training.state import TrainingState, load_model
from continuum.training.weights import load_weights


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
    num_parameters = Architecture(origin.model_config_fields).num_parameters()
    resolved = resolve(recipe, ctx.run.resolved(), num_parameters)
    fabric = make_fabric(resolved, recipe.runtime)
    if fabric.is_global_zero:
        ctx.run.keep_resolved(as_record(resolved))
    for warning in memory_warnings(fabric, recipe, origin.model_config_fields, resolved):
        ctx.report({"event": "warning", "message": warning})
    if fabric.device.type == "cpu":
        keep_freed_memory()
    fabric.seed_everything(ctx.seed, verbose=False)

    datasets = open_datasets(ctx, recipe)
    share = Share(fabric.global_rank, fabric.world_size, recipe.runtime.micro_batch_size)
    state = _begin(fabric, ctx, recipe, origin, resolved)
    num_steps = _num_steps(recipe, datasets)
    rate = learning_rate(recipe, num_steps, start_step=state.step, start_lr=state.learning_rate)
    data = training_data(ctx.seed, recipe, datasets, share)
    validation = validation_data(recipe, datasets, share)
    task = make_task(ctx, recipe, num_steps, rate, data, validation)
    found = numerics(ctx.run.record().kind)
    recover(fabric, ctx, state, resolved, found)

    companions = _companions(recipe, origin, datasets, resolved, found)
    saver = Saver(fabric, ctx, recipe, companions, intervals_of(recipe, num_steps).keep_every)
    log = MetricsLog(
        ctx.run,
        attempt=ctx.run.num_attempts,
        loggers=recipe.runtime.loggers,
        config=_config(ctx, recipe, origin),
        warn=lambda message: ctx.report({"event": "warning", "message": message}),
        is_writer=fabric.is_global_zero,
    )
    _fit(fabric, ctx, state, task, saver, log)
    fabric.barrier()
    if state.step != num_steps:
        raise StageFailedError(
            f"took {state.step:,} optimizer steps where the plan has {num_steps:,}"
        )
    if state.skipped_steps:
        message = (
            f"{state.skipped_steps:,} of {state.step:,} steps were left out (on_nonfinite: skip): "
            "their gradients were no numbers"
        )
        ctx.report({"event": "warning", "message": message})
    return _final_artifact(fabric, ctx, companions, num_steps)


def _begin(
    fabric: Fabric, ctx: StageContext, recipe: Recipe, origin: Origin, resolved: Resolved
) -> TrainingState:
    """The state before the stage's first step: fresh, the parent's weights, or the parent's all."""
    is_fresh = origin.weights is None and origin.state is None
    fields = origin.model_config_fields
    seed = ctx.seed if is_fresh else None
    state = make_state(fabric, recipe, fields, resolved, seed=seed)
    state.tokens_before = origin.tokens_before
    if origin.weights is not None:
        load_model(state.model, load_weights(origin.weights))
    if origin.state is not None:
        restore(fabric, state, origin.state)
        state.metrics = without_notes(state.metrics)
    return state


def _num_steps(recipe: Recipe, datasets: Datasets) -> int:
    num_blocks = sum(d.train.num_blocks(recipe.sequence_length) for d in datasets.values())
    num_steps = recipe.num_steps(num_blocks)
    assert num_steps is not None
    return num_steps


def _companions(
    recipe: Recipe,
    origin: Origin,
    datasets: Datasets,
    resolved: Resolved,
    found: dict[str, Any],
) -> Companions:
    first = next(iter(datasets.values()))
    return Companions(
        tokenizer_dir=first.path / "tokenizer",
        model_config_fields=origin.model_config_fields,
        # What was learned, not how: the same weights are the same bytes, whatever the runtime.
        recipe=recipe.model_dump(mode="json", exclude_none=True, exclude={"evaluate", "runtime"}),
        vocabulary_digest=first.vocabulary_digest,
        parent=origin.parent,
        world_size=resolved.world_size,
        micro_batch_size=resolved.micro_batch_size,
        strategy=resolved.strategy,
        resolved=as_record(resolved),
        numerics=found,
    )


def _config(ctx: StageContext, recipe: Recipe, origin: Origin) -> dict[str, Any]:
    """What loggers show of the run: which it is, and how it trains with everything filled in."""
    fields = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    runtime = fields.pop("runtime")
    return {
        "stage": ctx.run.stage_name,
        "fingerprint": ctx.run.record().fingerprint,
        "seed": ctx.seed,
        "model": origin.model_config_fields["name"],
        "inputs": {ref: artifact.digest for ref, artifact in ctx.inputs.items()},
        "recipe": fields,
        "runtime": {**runtime, "resolved": ctx.run.resolved()},
    }


def _fit(
    fabric: Fabric,
    ctx: StageContext,
    state: TrainingState,
    task: Task,
    saver: Saver,
    log: MetricsLog,
) -> None:
    """Run the loop; what it has handed over is on disk when this returns or raises."""
    with log:
        log.continue_from(state.step, owes_evaluation=state.owes_evaluation)
        try:
            fit(
                fabric,
                state,
                task,
                log=log,
                save=saver.save,
                report=ctx.report,
                should_stop=ctx.should_stop,
            )
        except DivergedError as error:
            saver.wait()
            saved = ctx.run.checkpoints()
            last = f"step {saved[-1].manifest.step:,}" if saved else "none"
            raise StageFailedError(f"{error}; the last good checkpoint: {last}") from error
        finally:
            saver.wait()


def _final_artifact(
    fabric: Fabric, ctx: StageContext, companions: Companions, num_steps: int
) -> TrainingCheckpoint:
    final = saved_checkpoint(ctx.run.checkpoint_dir(num_steps))
    if final is None:
        raise StageFailedError(
            f"the checkpoint of step {num_steps:,} in {ctx.run.checkpoints_dir} was changed since "
            "it was written; run again"
        )
    if fabric.is_global_zero:
        discard_damaged(ctx.run)
        for file in final.manifest.files:
            link_or_copy(final.path / file.path, ctx.output_dir / file.path)
    return TrainingCheckpoint(
        path=ctx.run.output_dir,
        files=final.manifest.files,
        step=final.manifest.step,
        tokens_seen=final.manifest.tokens_seen,
        tokens_total=final.manifest.tokens_total,
        vocabulary_digest=companions.vocabulary_digest,
        model_config_fields=companions.model_config_fields,
        metrics=final.manifest.metrics,
    )
