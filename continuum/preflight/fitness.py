"""Whether a recipe, its data and its model fit together: batches, steps, blocks, vocabularies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from continuum.architecture import Architecture
from continuum.artifacts import TokenizedDataset
from continuum.recipe import Recipe, Schedule, intervals_of
from continuum.stage import PlanInput


@dataclass(frozen=True)
class Bound:
    """Blocks of a split: exact when the dataset exists, else no more than this."""

    blocks: int
    is_exact: bool


def blocks_of(recipe: Recipe, item: PlanInput, split: str) -> Bound | None:
    """Blocks of a split; None when nothing is known, or the split does not exist."""
    if isinstance(item.artifact, TokenizedDataset):
        found = getattr(item.artifact, split)
        return found and Bound(found.num_blocks(recipe.sequence_length), is_exact=True)
    tokens = item.forecast.max_tokens.get(split)
    return None if tokens is None else Bound(tokens // (recipe.sequence_length + 1), is_exact=False)


def batch_problems(recipe: Recipe) -> Iterator[str]:
    runtime = recipe.runtime
    world_size = runtime.devices * runtime.num_nodes
    at_once = world_size * runtime.micro_batch_size
    if recipe.global_batch_size % world_size:
        yield (
            f"global_batch_size {recipe.global_batch_size} is not divisible by devices "
            f"{runtime.devices} x num_nodes {runtime.num_nodes}; change one of them"
        )
    elif recipe.global_batch_size % at_once:
        nodes = f" x num_nodes {runtime.num_nodes}" if runtime.num_nodes > 1 else ""
        yield (
            f"global_batch_size {recipe.global_batch_size} is not divisible by devices "
            f"{runtime.devices}{nodes} x micro_batch_size {runtime.micro_batch_size} = {at_once}; "
            f"set runtime.micro_batch_size to {_largest_fit(recipe)}"
        )


def precision_problems(recipe: Recipe) -> Iterator[str]:
    """What Fabric's strategies and precisions, and torch's optimizers, cannot do together."""
    runtime = recipe.runtime
    is_alone = runtime.devices * runtime.num_nodes == 1
    if runtime.checkpoint.format == "sharded" and (is_alone or runtime.strategy == "ddp"):
        yield "runtime.checkpoint.format sharded needs strategy fsdp and more than one process"
    if recipe.precision == "16-mixed":
        is_fsdp = runtime.strategy == "fsdp" and not is_alone
        yield from scaler_problems(recipe, "fsdp" if is_fsdp else "ddp")


def scaler_problems(recipe: Recipe, strategy: str) -> Iterator[str]:
    """Why precision 16-mixed, which scales the loss, cannot be used; of it alone.

    Fabric's FSDP2 has no scaler; a fused optimizer takes the scale off the gradients itself, too
    late to clip them.
    """
    if strategy == "fsdp":
        yield "precision 16-mixed cannot be used with strategy fsdp; use bf16-mixed or 32-true"
    if recipe.optimizer.arguments.get("fused"):
        yield (
            "precision 16-mixed cannot be used with a fused optimizer; say `fused: false`, or use "
            "bf16-mixed or 32-true"
        )


def _largest_fit(recipe: Recipe) -> int:
    world_size = recipe.runtime.devices * recipe.runtime.num_nodes
    per_device = max(1, recipe.global_batch_size // world_size)
    sizes = range(min(recipe.runtime.micro_batch_size, per_device), 0, -1)
    return next((size for size in sizes if per_device % size == 0), 1)


def step_problems(recipe: Recipe, num_steps: int | None, start_step: int | None) -> Iterator[str]:
    if num_steps is None:
        return
    if num_steps < 1:
        yield (
            f"{recipe.budget} is less than one optimizer step of {recipe.tokens_per_step:,} tokens "
            f"(global_batch_size {recipe.global_batch_size} x sequence_length "
            f"{recipe.sequence_length}): nothing would be trained"
        )
        return
    if start_step is None:
        return
    own_steps = num_steps - start_step
    if own_steps < 1:
        yield (
            f"{recipe.budget} is {num_steps:,} steps, and the parent already took {start_step:,}: "
            "nothing would be trained; state a larger total"
        )
        return
    warmup = intervals_of(recipe, own_steps).warmup_steps
    if warmup > own_steps:
        yield (
            f"schedule.warmup is {warmup:,} steps, longer than the run of {own_steps:,} steps: "
            "the peak learning rate would never be reached"
        )
        return
    decay = recipe.schedule.decay if isinstance(recipe.schedule, Schedule) else None
    decay_steps = decay.in_steps(own_steps, recipe.tokens_per_step) if decay else 0
    if warmup + decay_steps > own_steps:
        yield (
            f"schedule.decay is {decay_steps:,} steps and schedule.warmup {warmup:,}, together "
            f"longer than the run of {own_steps:,} steps; shorten one of them"
        )


def data_problems(
    recipe: Recipe,
    datasets: Mapping[str, PlanInput],
    blocks: Mapping[str, Bound | None],
) -> Iterator[str]:
    vocabularies = {
        item.artifact.vocabulary_digest
        for item in datasets.values()
        if isinstance(item.artifact, TokenizedDataset)
    }
    if len(vocabularies) > 1:
        yield (
            f"the datasets {', '.join(datasets)} were made with different tokenizers; "
            "tokenize all of them with the model's"
        )
    for ref, item in datasets.items():
        bound = blocks.get(ref)  # none of a dataset that is only evaluated
        if bound is not None and not bound.blocks:
            yield (
                f"dataset {ref!r} has too few tokens for one block of sequence_length "
                f"{recipe.sequence_length:,}; shorten the sequences or add text"
            )
        if recipe.evaluate is None:
            continue
        validation = blocks_of(recipe, item, "validation")
        has_none = (
            item.artifact.validation is None
            if isinstance(item.artifact, TokenizedDataset)
            else item.forecast.has_validation is False
        )
        if has_none or validation is not None:
            yield from evaluation_problems(recipe, ref, validation.blocks if validation else 0)


def evaluation_problems(recipe: Recipe, name: str, num_blocks: int) -> Iterator[str]:
    """Why a dataset's validation split cannot be evaluated: it has no block.

    Args:
        num_blocks: Validation blocks of `recipe.sequence_length`, or no more than these.
    """
    if not num_blocks:
        yield (
            f"dataset {name!r} has no validation block of sequence_length "
            f"{recipe.sequence_length:,}: enlarge its validation split, or say `evaluate: null`"
        )


def model_problems(
    recipe: Recipe, architecture: Architecture | None, datasets: Mapping[str, PlanInput]
) -> Iterator[str]:
    if architecture is None:
        return
    if recipe.sequence_length > architecture.block_size:
        yield (
            f"sequence_length {recipe.sequence_length:,} is longer than the block_size "
            f"{architecture.block_size:,} of {architecture.name}"
        )
    for ref, item in datasets.items():
        dataset = item.artifact
        if isinstance(dataset, TokenizedDataset) and (
            dataset.num_ids > architecture.padded_vocab_size
        ):
            yield (
                f"dataset {ref!r} has token ids up to {dataset.num_ids - 1:,}, but "
                f"{architecture.name} has {architecture.padded_vocab_size:,} embeddings; "
                "set the model's padded_vocab_size or use its own tokenizer"
            )


def vocabulary_doubts(
    architecture: Architecture | None, datasets: Mapping[str, PlanInput]
) -> Iterator[str]:
    """A doubt about each dataset to come whose tokenizer may have more ids than the model takes."""
    if architecture is None:
        return
    rows = architecture.padded_vocab_size
    for ref, item in datasets.items():
        most = item.forecast.max_ids
        if item.artifact is None and most is not None and most > rows:
            yield (
                f"dataset {ref!r} may have token ids up to {most - 1:,}, but {architecture.name} "
                f"has {rows:,} embeddings, and the run is refused if it does; set the model's "
                "vocab_size to the tokenizer's"
            )
