"""Run a training stage: set up, resume, fit, publish the final checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    VALIDATION_LOSS,
    DataPosition,
    TrainingCheckpoint,
    best_of,
    best_step,
    record_best,
)
from continuum.runs.events import Ready
from continuum.runs.files import link_or_copy
from continuum.runs.records import checkpoint_name
from continuum.runs.retention import last_good
from continuum.training.checkpoint import Companions
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
from continuum.training.order import Part, Positions, mixture_of, positions_after, start_positions
from continuum.training.rank_sync import named_device_faults
from continuum.training.recovery import discard_damaged, recover, restore
from continuum.training.resolved import Resolved, resolve
from continuum.training.saving import Saver
from continuum.training.schedule import LearningRate, learning_rate
from continuum.training.state import TrainingState, load_model
from continuum.training.throughput import most_tokens_per_s
from continuum.training.weights import check_tied, load_weights


def train(stage: Stage, ctx: StageContext, recipe: Recipe, origin: Origin) -> TrainingCheckpoint:
    """Train from the origin, or resume from the run's newest intact checkpoint."""
    training = _set_up(ctx, recipe, origin)
    state = training.initial_state()
    training.settle_micro_batch(state)
    ctx.prove_inputs()
    num_steps = training.num_steps()
    rate = _checked_rate(recipe, num_steps, state)
    start_step = state.step
    # Until a checkpoint is saved, an evaluation at the start is repeated and its row replaced.
    state.evaluation_pending = recipe.evaluate is not None and bool(recipe.evaluate.at_start)
    environment = numerics(stage.kind, stage.version)
    has_recovered = recover(training.fabric, ctx, state, training.resolved, environment)
    if not has_recovered:
        training.record_data_position()
    # A checkpoint's own record of where the stage started reading takes precedence.
    starts = {key: DataPosition(**fields) for key, fields in state.data_start.items()}
    task = training.task(num_steps, start_step, rate, starts)
    saver = training.saver(num_steps, task, starts, environment)
    _fit(training, state, task, saver)
    _report_steps(ctx, state, num_steps)
    return _final_artifact(training.fabric, ctx, num_steps)


@dataclass
class _Training:
    """The parts of one training that are fixed before its first step."""

    fabric: Fabric
    ctx: StageContext
    recipe: Recipe
    origin: Origin
    shape: Architecture
    resolved: Resolved
    datasets: Datasets
    parts: list[Part]
    """The datasets of the mixture."""

    def initial_state(self) -> TrainingState:
        """The state before the first step: new weights, or the parent's weights or state."""
        fabric, recipe, origin = self.fabric, self.recipe, self.origin
        is_fresh = origin.weights is None and origin.state is None
        seed = self.ctx.seeds["init"] if is_fresh else None
        state = make_state(
            fabric, recipe, origin.model_config_fields, self.resolved, seed=seed, tied=origin.tied
        )
        state.tokens_before = origin.tokens_before
        state.tokens_before_known = origin.tokens_before_known
        starts, _ = start_positions(self.parts, recipe, origin.data_read, origin.data_position)
        state.data_start = {digest: start.model_dump() for digest, start in starts.items()}
        if origin.weights is not None:
            weights = load_weights(origin.weights)
            if origin.tied:
                check_tied(origin.weights, weights=weights)
            load_model(state.model, weights)
        if origin.state is not None:
            restore(fabric, state, origin.state)
            state.metrics = {}  # a parent's losses and best steps are not this stage's
        return state

    def settle_micro_batch(self, state: TrainingState) -> None:
        """Decide `micro_batch_size: auto` by a trial, unless an earlier attempt did; record it."""
        if "micro_batch_size" not in self.ctx.run.resolved():
            size = largest_micro_batch(self.fabric, state, self.recipe, self.shape, self.resolved)
            self.resolved = replace(self.resolved, micro_batch_size=size)
        if self.fabric.is_global_zero:
            self.ctx.run.keep_resolved(self.resolved.as_record())

    def num_steps(self) -> int:
        """Optimizer steps at the end of the stage."""
        length = self.recipe.sequence_length
        num_blocks = sum(self.datasets[ref].train.num_blocks(length) for ref in self.recipe.data)
        num_steps = self.recipe.num_steps(num_blocks)
        assert num_steps is not None
        return num_steps

    def record_data_position(self) -> None:
        """Record where a stage that continues from weights starts reading each dataset."""
        origin = self.origin
        if origin.weights is None or not self.fabric.is_global_zero:
            return
        starts, restarts = start_positions(
            self.parts, self.recipe, origin.data_read, origin.data_position
        )
        found: dict[str, dict[str, Any]] = {}
        for part in self.parts:
            digest = part.dataset.digest
            start, why = starts[digest], restarts.get(digest)
            place = {"sha256": digest, "epoch": start.epoch, "blocks_read": start.blocks_read}
            found[part.ref] = {**place, **({"restarts": why} if why else {})}
        self.ctx.run.log_attempt("data_position", datasets=found)

    def task(self, num_steps: int, start_step: int, rate: LearningRate, starts: Positions) -> Task:
        """What the loop does, from the recipe and this machine's choices."""
        recipe, resolved, fabric = self.recipe, self.resolved, self.fabric
        share = Share(fabric.global_rank, fabric.world_size, resolved.micro_batch_size)
        rows = rows_at_once(self.origin.model_config_fields, resolved.precision)
        intervals = intervals_of(recipe, num_steps)
        on_cuda = resolved.accelerator == "cuda"
        flops = self.shape.training_flops_per_token(recipe.sequence_length)
        return Task(
            num_steps=num_steps,
            tokens_per_step=recipe.tokens_per_step,
            rate=rate,
            max_norm=recipe.max_norm,
            log_every=recipe.runtime.log_every,
            evaluate_every=intervals.evaluate_every,
            checkpoint_every=intervals.checkpoint_every,
            save_steps=frozenset(self.ctx.record.save_steps),
            data=training_data(self.parts, recipe, starts, share),
            validation=validation_data(recipe, self.datasets, share, rows),
            evaluate_final=recipe.evaluate is not None and recipe.evaluate.final,
            start_step=start_step,
            checkpoint_minutes=recipe.runtime.checkpoint.minutes,
            skips_nonfinite=recipe.on_nonfinite == "skip",
            best_metrics=_tracked_metrics(self.ctx, recipe),
            logs_late=on_cuda,
            # DDP's buckets hold full gradients anyway; FSDP2 would hold them next to its shards.
            reduces_once=resolved.strategy != "fsdp" or resolved.accumulate_unsharded,
            most_tokens_per_s=most_tokens_per_s(
                resolved.device if on_cuda else None, resolved.precision, fabric.world_size, flops
            ),
        )

    def saver(
        self, num_steps: int, task: Task, starts: Positions, environment: dict[str, Any]
    ) -> Saver:
        """Writes the checkpoints, each with the files and facts that all of them share."""
        first = self.parts[0].dataset
        shared = TrainingCheckpoint(
            path=first.path,
            model_config_fields=self.origin.model_config_fields,
            tied=self.origin.tied,
            vocabulary_digest=first.vocabulary_digest,
            parent=self.origin.parent,
            world_size=self.resolved.world_size,
            micro_batch_size=self.resolved.micro_batch_size,
            strategy=self.resolved.strategy,
            resolved=self.resolved.as_record(),
            numerics=environment,
        )
        companions = Companions(
            shared,
            tokenizer_dir=first.path / "tokenizer",
            recipe=_hyperparameters(self.recipe, self.parts),
            data_read=lambda step: positions_after(self.parts, starts, task.data.blocks_read(step)),
            tokenizer_sha256={
                file.path.removeprefix("tokenizer/"): file.sha256
                for file in first.files
                if file.path.startswith("tokenizer/")
            },
        )
        retention = retention_of(
            self.recipe, num_steps, self.ctx.record.save_steps, task.best_metrics
        )
        return Saver(self.fabric, self.ctx, self.recipe, companions, retention)

    def metrics_log(self) -> MetricsLog:
        run, recipe = self.ctx.run, self.recipe
        fields = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
        runtime = fields.pop("runtime")
        shown = {
            "stage": run.stage_name,
            "fingerprint": self.ctx.record.fingerprint,
            "seeds": dict(self.ctx.seeds),
            "model": self.origin.model_config_fields["name"],
            "inputs": {ref: artifact.digest for ref, artifact in self.ctx.inputs.items()},
            "recipe": fields,
            "runtime": {**runtime, "resolved": run.resolved()},
        }
        return MetricsLog(
            run,
            attempt=run.num_attempts,
            loggers=recipe.runtime.loggers,
            config=shown,
            warn=self.ctx.warn,
            is_writer=self.fabric.is_global_zero,
        )


def _set_up(ctx: StageContext, recipe: Recipe, origin: Origin) -> _Training:
    """Resolve `auto` fields, start Fabric, check memory, seed, and open the datasets."""
    shape = Architecture(origin.model_config_fields, origin.tied)
    resolved = resolve(recipe, ctx.run.resolved(), shape)
    fabric = make_fabric(resolved, recipe.runtime)
    for warning in memory_warnings(fabric, recipe, shape, resolved):
        ctx.warn(warning)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    assert recipe.data_seed is not None, "the planner fills it in"
    # Only a new model draws random numbers; the others seed too, so that their RNG state is fixed.
    fabric.seed_everything(ctx.seeds.get("init", recipe.data_seed), verbose=False)
    datasets = open_datasets(ctx, recipe)
    parts = mixture_of(recipe, datasets)
    return _Training(fabric, ctx, recipe, origin, shape, resolved, datasets, parts)


def _checked_rate(recipe: Recipe, num_steps: int, state: TrainingState) -> LearningRate:
    """The learning rate schedule.

    Raises:
        PreflightError: it is zero at every step.
    """
    rate = learning_rate(recipe, num_steps, start_step=state.step, start_lr=state.learning_rate)
    if rate.is_zero:
        raise PreflightError(
            f"schedule: the parent's last learning rate is 0 and {rate.kind} keeps it at 0, so no "
            "step would learn anything; set `peak` and `warmup`"
        )
    return rate


def _tracked_metrics(ctx: StageContext, recipe: Recipe) -> tuple[str, ...]:
    """Validation losses whose best step is recorded, and saved regardless of the intervals."""
    policy = recipe.runtime.checkpoint.keep_best
    kept = {policy} if policy and policy.partition("/")[0] == VALIDATION_LOSS else set()
    return tuple(sorted({*ctx.record.best_metrics, *kept}))


def _hyperparameters(recipe: Recipe, parts: list[Part]) -> dict[str, Any]:
    """The fields that decide what is learned, in canonical form.

    The same weights get the same bytes, whatever the runtime and whatever a dataset is called.
    """
    fields: Mapping[str, Any] = {
        **training_identity(recipe.identity(), recipe),
        "data": {part.dataset.digest: part.weight for part in parts},
    }
    return {name: fields[name] for name in sorted(fields.keys() - {"evaluate"})}


def _fit(training: _Training, state: TrainingState, task: Task, saver: Saver) -> None:
    """Run the loop; everything it submitted for saving is on disk when this returns or raises."""
    fabric, ctx = training.fabric, training.ctx
    with training.metrics_log() as log:
        log.continue_from(state.step, evaluation_pending=state.evaluation_pending)
        _record_earlier_best(fabric, ctx, state, task)
        ctx.report(Ready())
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
            raise StageFailedError(f"{error}; last good checkpoint: {named}") from error
        finally:
            saver.wait()
    fabric.barrier()


def _record_earlier_best(
    fabric: Fabric, ctx: StageContext, state: TrainingState, task: Task
) -> None:
    """Record the best step of earlier attempts, which were not asked to track it.

    Collective, since the best step decides what is saved.
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


def _report_steps(ctx: StageContext, state: TrainingState, num_steps: int) -> None:
    """Warn about skipped steps.

    Raises:
        StageFailedError: the loop ended early.
    """
    if state.step != num_steps:
        raise StageFailedError(
            f"training ended at step {state.step:,}, but the plan has {num_steps:,} steps"
        )
    if state.skipped_steps:
        ctx.warn(
            f"skipped {state.skipped_steps:,} of {state.step:,} steps (on_nonfinite: skip): their "
            "gradients were NaN or inf"
        )


def _final_artifact(fabric: Fabric, ctx: StageContext, num_steps: int) -> TrainingCheckpoint:
    """The last checkpoint, its files linked into `output/`."""
    final = ctx.run.checkpoint(checkpoint_name(num_steps))
    if final is None:
        raise StageFailedError(
            f"the checkpoint of step {num_steps:,} in {ctx.run.checkpoints_dir} was modified after "
            "it was written; run again"
        )
    if fabric.is_global_zero:
        discard_damaged(ctx.run)
        for file in final.files:
            link_or_copy(final.path / file.path, ctx.output_dir / file.path)
    return final.model_copy(update={"path": ctx.run.output_dir})
