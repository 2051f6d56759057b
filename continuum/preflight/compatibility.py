"""Whether a recipe, its data and its model are compatible: batches, steps, blocks, vocabularies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from continuum.errors import Needs, Problem
from continuum.experiment.architecture import Architecture
from continuum.experiment.recipe import Recipe, Schedule, intervals_of
from continuum.experiment.stage import PlanInput
from continuum.formatting import plural
from continuum.runs.artifacts import TokenizedDataset


@dataclass(frozen=True)
class Bound:
    """Blocks of a split: exact if the dataset exists, otherwise an upper bound."""

    blocks: int
    is_exact: bool


def blocks_of(recipe: Recipe, item: PlanInput, split: str) -> Bound | None:
    """Blocks of a split; None if unknown, or if the split does not exist."""
    if isinstance(item.artifact, TokenizedDataset):
        found = getattr(item.artifact, split)
        return found and Bound(found.num_blocks(recipe.sequence_length), is_exact=True)
    tokens = item.forecast.max_tokens.get(split)
    return None if tokens is None else Bound(tokens // (recipe.sequence_length + 1), is_exact=False)


def batch_problems(recipe: Recipe) -> Iterator[Problem]:
    """A global batch that is not divisible over the processes."""
    runtime = recipe.runtime
    world_size = runtime.world_size
    where = ("global_batch_size",)
    if recipe.global_batch_size % world_size:
        yield Problem(
            where,
            f"global_batch_size {recipe.global_batch_size} is not divisible by devices "
            f"{runtime.devices} x num_nodes {runtime.num_nodes}; change one of them",
        )
    elif runtime.micro_batch_size == "auto":
        return
    elif recipe.global_batch_size % (at_once := world_size * runtime.micro_batch_size):
        nodes = f" x num_nodes {runtime.num_nodes}" if runtime.num_nodes > 1 else ""
        yield Problem(
            where,
            f"global_batch_size {recipe.global_batch_size} is not divisible by devices "
            f"{runtime.devices}{nodes} x micro_batch_size {runtime.micro_batch_size} = {at_once}; "
            f"set runtime.micro_batch_size to {_largest_fit(recipe)}",
        )


def precision_problems(recipe: Recipe) -> Iterator[Problem]:
    """Combinations that Fabric, torch's optimizers or kernels do not support."""
    runtime = recipe.runtime
    is_alone = runtime.world_size == 1
    if runtime.checkpoint.format == "sharded" and (is_alone or runtime.strategy == "ddp"):
        yield Problem(
            ("runtime", "checkpoint", "format"),
            "runtime.checkpoint.format sharded needs strategy fsdp and more than one process",
        )
    if runtime.attention == "cudnn" and runtime.deterministic:
        yield Problem(
            ("runtime", "attention"),
            "runtime.attention cudnn is not deterministic; use auto, or set runtime.deterministic "
            "to false",
        )
    if recipe.precision == "16-mixed":
        is_fsdp = runtime.strategy == "fsdp" and not is_alone
        yield from scaler_problems(recipe, "fsdp" if is_fsdp else "ddp")


def scaler_problems(recipe: Recipe, strategy: str) -> Iterator[Problem]:
    """Why precision 16-mixed, which scales the loss, cannot be used.

    Fabric's FSDP2 has no scaler; a fused optimizer unscales the gradients itself, too late to clip
    them.
    """
    if strategy == "fsdp":
        yield Problem(
            ("runtime", "strategy"),
            "precision 16-mixed cannot be used with strategy fsdp; use bf16-mixed or 32-true",
        )
    if recipe.optimizer.arguments.get("fused"):
        yield Problem(
            ("optimizer", "fused"),
            "precision 16-mixed cannot be used with a fused optimizer; set `fused: false`, or use "
            "bf16-mixed or 32-true",
        )


def unused_settings(recipe: Recipe) -> Iterator[Problem]:
    """Settings of the runtime that have no effect with the others."""
    runtime = recipe.runtime
    is_alone = runtime.world_size == 1
    if runtime.accumulate_unsharded and (is_alone or runtime.strategy != "fsdp"):
        yield Problem(
            ("runtime", "accumulate_unsharded"),
            "accumulate_unsharded has no effect without `strategy: fsdp` and several processes",
            code="W015",
            severity="warning",
            at_key=True,
        )


def _largest_fit(recipe: Recipe) -> int:
    world_size = recipe.runtime.world_size
    per_device = max(1, recipe.global_batch_size // world_size)
    sizes = range(min(recipe.micro_batch_size, per_device), 0, -1)
    return next((size for size in sizes if per_device % size == 0), 1)


def step_problems(
    recipe: Recipe, num_steps: int | None, start_step: int | None
) -> Iterator[Problem]:
    """A budget of less than one step, or a schedule that is longer than the stage."""
    if num_steps is None:
        return
    needs: Needs = "spec" if recipe.epochs is None else "folder"  # epochs depend on the data
    budget = (recipe.budget.partition(" ")[0],)
    if num_steps < 1:
        yield Problem(
            budget,
            f"{recipe.budget} is less than one optimizer step of {recipe.tokens_per_step:,} tokens "
            f"(global_batch_size {recipe.global_batch_size} x sequence_length "
            f"{recipe.sequence_length}): nothing would be trained",
            needs=needs,
        )
        return
    if start_step is None:
        return
    own_steps = num_steps - start_step
    if own_steps < 1:
        yield Problem(
            budget,
            f"{recipe.budget} is {plural(num_steps, 'step')}, and the parent already took "
            f"{start_step:,}: nothing would be trained; set a larger total",
            needs=needs,
        )
        return
    warmup = intervals_of(recipe, own_steps).warmup_steps
    decay = recipe.schedule.decay if isinstance(recipe.schedule, Schedule) else None
    decay_steps = decay.in_steps(own_steps, recipe.tokens_per_step) if decay else 0
    if warmup > own_steps:
        yield Problem(
            ("schedule", "warmup"),
            f"schedule.warmup is {plural(warmup, 'step')}, longer than the run of "
            f"{plural(own_steps, 'step')}: the peak learning rate would never be reached",
            needs=needs,
        )
    elif warmup + decay_steps > own_steps:
        yield Problem(
            ("schedule", "decay"),
            f"schedule.decay is {plural(decay_steps, 'step')} and schedule.warmup {warmup:,}, "
            f"together longer than the run of {plural(own_steps, 'step')}; shorten one of them",
            needs=needs,
        )


def data_problems(
    recipe: Recipe,
    datasets: Mapping[str, PlanInput],
    blocks: Mapping[str, Bound | None],
) -> Iterator[Problem]:
    """Datasets with different tokenizers, or too few tokens for one sequence."""
    yield from _mixed_tokenizers(datasets)
    for ref, item in datasets.items():
        bound = blocks.get(ref)  # None if it is only evaluated
        if bound is not None and not bound.blocks:
            yield Problem(
                data_path(recipe, ref),
                f"dataset {ref!r} has too few tokens for one block of sequence_length "
                f"{recipe.sequence_length:,}; shorten the sequences or add text",
                needs="folder",
            )
        validation = blocks_of(recipe, item, "validation")
        is_known = item.artifact is not None or item.forecast.has_validation is False
        if recipe.evaluate is not None and (is_known or validation is not None):
            yield from evaluation_problems(recipe, ref, validation.blocks if validation else None)


def _mixed_tokenizers(datasets: Mapping[str, PlanInput]) -> Iterator[Problem]:
    vocabularies = [it.vocabulary for it in datasets.values() if it.vocabulary is not None]
    if any(it.differs_from(vocabularies[0]) for it in vocabularies):
        yield Problem(
            ("data",),
            f"the datasets {', '.join(datasets)} were tokenized with different tokenizers; use the "
            "model's tokenizer for all of them",
            needs="folder",
        )


def tokenizer_problems(
    recipe: Recipe, ref: str, model: PlanInput, inputs: Mapping[str, PlanInput]
) -> Iterator[Problem]:
    """Data of another tokenizer than the model's, whose ids would be noise to it.

    Args:
        ref: The model's reference.
        inputs: At least the datasets, by reference.
    """
    own = model.vocabulary
    for name in recipe.all_data:
        other = inputs[name].vocabulary
        differs = other.differs_from(own) if own is not None and other is not None else False
        if own is None or other is None or differs is False:
            continue
        if differs:
            yield Problem(
                data_path(recipe, name),
                f"dataset {str(name)!r} uses another tokenizer than the model {ref!r}; tokenize it "
                f"with the model's own, {own.stage!r}",
                needs="folder",
            )
        elif own.is_new or other.is_new:
            yield Problem(
                data_path(recipe, name),
                f"the tokenizers of the model {str(ref)!r} and of dataset {str(name)!r} are "
                f"{own.stage!r} and {other.stage!r}: if these differ, the run is refused; tokenize "
                f"with {own.stage!r}",
                severity="warning",
                needs="folder",
            )


def evaluation_problems(recipe: Recipe, name: str, num_blocks: int | None) -> Iterator[Problem]:
    """A dataset without a validation split, or with one without a block: it cannot be evaluated.

    Args:
        num_blocks: Validation blocks of `recipe.sequence_length`, or an upper bound; None without
            a split.
    """
    message = None
    if num_blocks is None:
        message = (
            f"dataset {name!r} has no validation split; give its stage one (to tokenize: "
            "`validation: {fraction: 0.05}`), or set `evaluate: null`"
        )
    elif not num_blocks:
        message = (
            f"dataset {name!r} has no validation block of sequence_length "
            f"{recipe.sequence_length:,}; enlarge its validation split, or set `evaluate: null`"
        )
    if message is not None:
        yield Problem(data_path(recipe, name), message, needs="folder")


def data_path(recipe: Recipe, ref: str) -> tuple[str | int, ...]:
    """The path of a dataset in a training stage."""
    if ref in recipe.held_out:
        return ("evaluate", "on", recipe.held_out.index(ref))
    return ("data", ref) if len(recipe.data) > 1 else ("data",)


def model_problems(
    recipe: Recipe, architecture: Architecture | None, datasets: Mapping[str, PlanInput]
) -> Iterator[Problem]:
    """Sequences that are too long for the model, and token ids that are or may be too large."""
    if architecture is None:
        return
    if recipe.sequence_length > architecture.block_size:
        yield Problem(
            ("sequence_length",),
            f"sequence_length {recipe.sequence_length:,} is longer than the block_size "
            f"{architecture.block_size:,} of {architecture.name}",
        )
    rows = architecture.padded_vocab_size
    for ref, item in datasets.items():
        where, made = data_path(recipe, ref), item.artifact
        if isinstance(made, TokenizedDataset):
            if made.num_ids > rows:
                yield Problem(
                    where,
                    f"dataset {ref!r} has token ids up to {made.num_ids - 1:,}, but "
                    f"{architecture.name} has {rows:,} embeddings; set the model's "
                    "padded_vocab_size or use its own tokenizer",
                    needs="folder",
                )
        elif (most := item.forecast.max_ids or 0) > rows:
            yield Problem(
                where,
                f"dataset {ref!r} may have token ids up to {most - 1:,}, but "
                f"{architecture.name} has {rows:,} embeddings; if it does, the run is refused: set "
                "the model's vocab_size to the tokenizer's",
                severity="warning",
            )
