"""A training stage from its recipe to its last checkpoint: set up, recover, fit, publish."""

from dataclasses import replace
from typing import Any

from lightning import Fabric

from continuum.errors import PreflightError, StageFailedError
from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import (
    Origin,
    Recipe,
    intervals_of,
    retention_of,
    training_identity,
)
from continuum.experiment.stage import Stage, StageContext
from continuum.runs.artifacts import (
    DataPosition,
    TrainingCheckpoint,
    best_of,
    best_step,
    record_best,
)
from continuum.runs.files import link_or_copy
from continuum.runs.records import checkpoint_name
from continuum.runs.retention import last_good
from continuum.training.checkpoint import Companions, discard_damaged
from continuum.training.data import (
    Datasets,
    Share,
    open_datasets,
    rows_at_once,
    training_data,
    validation_data,
)
from continuum.training.divergence import DivergedError
from continuum.training.fabric import make_fabric
from continuum.training.loop import Task, fit
from continuum.training.memory import keep_freed_memory, largest_micro_batch, memory_warnings
from continuum.training.metrics import MetricsLog
from continuum.training.model import make_state
from continuum.training.numerics import numerics
from continuum.training.peak_flops import most_tokens_per_s
from continuum.training.positions import Part, begin, mixture_of, positions_after, told
from continuum.training.rank_sync import named_device_faults
from continuum.training.recovery import recover, restore
from continuum.training.resolved import Resolved, resolve
from continuum.training.saving import Saver, tracked_metrics
from continuum.training.schedule import learning_rate
from continuum.training.state import TrainingState, load_model
from continuum.training.tied import check_loaded
from continuum.training.weights import load_weights


def train(stage: Stage, ctx: StageContext, recipe: Recipe, origin: Origin) -> TrainingCheckpoint:
    """Carry a training stage out, from its newest whole checkpoint if it has any."""
    shape = Architecture(origin.model_config_fields, origin.tied)
    kept = ctx.run.resolved()
    resolved = resolve(recipe, kept, shape)
    fabric = make_fabric(resolved, recipe.runtime)
    for warning in memory_warnings(fabric, recipe, shape, resolved):
        ctx.warn(warning)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    assert recipe.data_seed is not None, "the planner fills it in"
    # Only a new model draws numbers; the others' random state is to be the same each time too.
    fabric.seed_everything(ctx.seeds.get("init", recipe.data_seed), verbose=False)

    datasets = open_datasets(ctx, recipe)
    parts = mixture_of(recipe, datasets)
    state = _begin(fabric, ctx, recipe, origin, resolved, parts)
    if "micro_batch_size" not in kept:
        size = largest_micro_batch(fabric, state, recipe, shape, resolved)
        resolved = replace(resolved, micro_batch_size=size)
    if fabric.is_global_zero:
        ctx.run.keep_resolved(resolved.as_record())
    share = Share(fabric.global_rank, fabric.world_size, resolved.micro_batch_size)
    ctx.prove_inputs()
    num_steps = _num_steps(recipe, datasets)
    rate = learning_rate(recipe, num_steps, start_step=state.step, start_lr=state.learning_rate)
    if rate.is_zero:
        raise PreflightError(
            f"schedule: the parent's last learning rate is 0 and {rate.kind} holds it there: no "
            "step would learn anything; state `peak` and `warmup`"
        )
    start_step = state.step
    # Until something is saved: an attempt that saved nothing left nothing but a row, to be dropped.
    state.owes_evaluation = recipe.evaluate is not None and bool(recipe.evaluate.at_start)
    found = numerics(stage.kind, stage.version)
    has_recovered = recover(fabric, ctx, state, resolved, found)
    if origin.weights is not None and not has_recovered and fabric.is_global_zero:
        begun = told(parts, recipe, origin.data_read, origin.data_position)
        ctx.run.log_attempt("data_position", datasets=begun)
    # As the checkpoint has it, if there is one: it says where the stage began.
    starts = {key: DataPosition(**fields) for key, fields in state.data_start.items()}
    data = training_data(parts, recipe, starts, share)
    rows = rows_at_once(origin.model_config_fields, resolved.precision)
    validation = validation_data(recipe, datasets, share, rows)
    intervals = intervals_of(recipe, num_steps)
    flops = shape.training_flops_per_token(recipe.sequence_length)
    task = Task(
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
        most_tokens_per_s=most_tokens_per_s(
            fabric.device, resolved.precision, fabric.world_size, flops
        ),
    )
    companions = replace(
        _companions(recipe, origin, parts, resolved, found),
        data_read=lambda step: positions_after(parts, starts, data.blocks_read(step)),
    )
    best_metrics = tracked_metrics(ctx, recipe)
    retention = retention_of(recipe, num_steps, ctx.record.save_steps, best_metrics)
    saver = Saver(fabric, ctx, recipe, companions, retention)
    log = MetricsLog(
        ctx.run,
        attempt=ctx.run.num_attempts,
        loggers=recipe.runtime.loggers,
        config=_config(ctx, recipe, origin),
        warn=ctx.warn,
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
        ctx.warn(message)
    return _final_artifact(fabric, ctx, num_steps)


def _begin(
    fabric: Fabric,
    ctx: StageContext,
    recipe: Recipe,
    origin: Origin,
    resolved: Resolved,
    parts: list[Part],
) -> TrainingState:
    """The state before the stage's first step: fresh, the parent's weights, or the parent's all."""
    is_fresh = origin.weights is None and origin.state is None
    fields = origin.model_config_fields
    seed = ctx.seeds["init"] if is_fresh else None
    state = make_state(fabric, recipe, fields, resolved, seed=seed, tied=origin.tied)
    state.tokens_before = origin.tokens_before
    starts = begin(parts, recipe, origin.data_read, origin.data_position)
    state.data_start = {digest: start.model_dump() for digest, start in starts.items()}
    state.tokens_before_known = origin.tokens_before_known
    if origin.weights is not None:
        weights = load_weights(origin.weights)
        if origin.tied:
            check_loaded(weights, origin.weights)
        load_model(state.model, weights)
    if origin.state is not None:
        restore(fabric, state, origin.state)
        state.metrics = {}  # What was measured, and best, in a parent says nothing of this stage.
    return state


def _num_steps(recipe: Recipe, datasets: Datasets) -> int:
    length = recipe.sequence_length
    num_blocks = sum(datasets[ref].train.num_blocks(length) for ref in recipe.data)
    num_steps = recipe.num_steps(num_blocks)
    assert num_steps is not None
    return num_steps


def _companions(
    recipe: Recipe,
    origin: Origin,
    parts: list[Part],
    resolved: Resolved,
    found: dict[str, Any],
) -> Companions:
    first = parts[0].dataset
    made = TrainingCheckpoint(
        path=first.path,
        model_config_fields=origin.model_config_fields,
        tied=origin.tied,
        vocabulary_digest=first.vocabulary_digest,
        parent=origin.parent,
        world_size=resolved.world_size,
        micro_batch_size=resolved.micro_batch_size,
        strategy=resolved.strategy,
        resolved=resolved.as_record(),
        numerics=found,
    )
    return Companions(
        made,
        tokenizer_dir=first.path / "tokenizer",
        recipe=as_hyperparameters(recipe, parts),
        tokenizer_sha256={
            file.path.removeprefix("tokenizer/"): file.sha256
            for file in first.files
            if file.path.startswith("tokenizer/")
        },
    )


def as_hyperparameters(recipe: Recipe, parts: list[Part]) -> dict[str, Any]:
    """What was learned, not how, in one form for all spellings and names.

    So the same weights are the same bytes, whatever the runtime and whatever a dataset is called.
    """
    fields = training_identity(recipe.identity(), recipe)
    fields["data"] = {part.dataset.digest: part.weight for part in parts}
    return {name: fields[name] for name in sorted(fields.keys() - {"evaluate"})}


def _note_earlier_best(fabric: Fabric, ctx: StageContext, state: TrainingState, task: Task) -> None:
    """Note the best of what earlier attempts evaluated, which did not know it would be asked for.

    Every process takes part, since the best decides what is saved.
    """
    if not task.best_metrics:
        return
    unknown = [m for m in task.best_metrics if best_step(state.metrics, m) is None]
    rows = ctx.run.metrics() if fabric.is_global_zero and unknown else []
    found = {metric: best_of(rows, metric) for metric in unknown}
    for metric, best in fabric.broadcast(found).items():
        if best is not None:
            value, step = best
            record_best(state.metrics, metric, step, value)


def _config(ctx: StageContext, recipe: Recipe, origin: Origin) -> dict[str, Any]:
    """What loggers show of the run: which it is, and how it trains with everything filled in."""
    fields = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    runtime = fields.pop("runtime")
    return {
        "stage": ctx.run.stage_name,
        "fingerprint": ctx.record.fingerprint,
        "seeds": dict(ctx.seeds),
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
        _note_earlier_best(fabric, ctx, state, task)
        try:
            with named_device_faults(fabric, state):
                fit(
                    fabric,
                    state,
                    task,
                    log=log,
                    save=saver.save,
                    report=ctx.report,
                    should_stop=ctx.should_stop,
                )
            saver.wait_together()
        except DivergedError as error:
            saver.wait()
            steps = [checkpoint.step for checkpoint in ctx.run.checkpoints()]
            last = max(steps, default=None)
            if error.last_taken is not None:
                last = last_good(steps, error.last_taken)
            named = "none" if last is None else f"step {last:,}"
            raise StageFailedError(f"{error}; the last good checkpoint: {named}") from error
        finally:
            saver.wait()


def _final_artifact(fabric: Fabric, ctx: StageContext, num_steps: int) -> TrainingCheckpoint:
    """The last checkpoint, whose files have a second name in `output/`."""
    final = ctx.run.checkpoint(checkpoint_name(num_steps))
    if final is None:
        raise StageFailedError(
            f"the checkpoint of step {num_steps:,} in {ctx.run.checkpoints_dir} was changed since "
            "it was written; run again"
        )
    if fabric.is_global_zero:
        discard_damaged(ctx.run)
        for file in final.files:
            link_or_copy(final.path / file.path, ctx.output_dir / file.path)
    return final.model_copy(update={"path": ctx.run.output_dir})
