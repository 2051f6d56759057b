"""What can be known to go wrong in training before anything starts.

The same checks serve the plan (with upper bounds where token data does not exist yet) and the
executor just before a stage is launched (with exact numbers).
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from continuum.amounts import Amount
from continuum.architecture import Architecture, training_state_bytes
from continuum.artifacts import TokenizedDataset
from continuum.extras import missing_extras
from continuum.recipe import Recipe, ResumeSchedule, Schedule, intervals_of
from continuum.stage import Forecast, PlanInput


@dataclass(frozen=True)
class Bound:
    """Blocks of a split: exact when the dataset exists, else no more than this."""

    blocks: int
    is_exact: bool


def forecast_training(
    recipe: Recipe,
    architecture: Architecture | None,
    inputs: Mapping[str, PlanInput],
    experiment_folder: Path,
    *,
    start_step: int | None = 0,
    parent_lr: float | None = None,
) -> Forecast:
    """Steps, tokens, checkpoints and bytes of a training stage, and why it cannot work.

    Args:
        recipe: The complete recipe.
        architecture: The model's shape; None while an imported parent is not read yet.
        inputs: At least the datasets, by reference.
        experiment_folder: Whose disk the checkpoints will lie on.
        start_step: A resume's first step; None while the parent is not known.
        parent_lr: A retrained model's peak learning rate before, if it is known.
    """
    datasets = {str(ref): inputs[ref] for ref in recipe.data}
    blocks = {ref: _blocks(recipe, item, "train") for ref, item in datasets.items()}
    num_steps = _num_steps(recipe, blocks)
    problems = [
        *_batch_problems(recipe),
        *_step_problems(recipe, num_steps, start_step),
        *_data_problems(recipe, datasets, blocks),
        *_model_problems(recipe, architecture, datasets),
        *missing_extras(recipe.runtime.loggers),
    ]
    checkpoint_bytes = _checkpoint_bytes(architecture)
    free_bytes = _free_bytes(experiment_folder)
    if checkpoint_bytes > free_bytes:
        problems.append(
            f"a checkpoint takes about {checkpoint_bytes:,} bytes, and {free_bytes:,} are free "
            "on the experiment's disk"
        )
    return Forecast(
        facts=_facts(recipe, architecture, num_steps, start_step, blocks),
        problems=tuple(problems),
        warnings=(
            *_warnings(recipe, num_steps, start_step),
            *_disk_warnings(recipe, checkpoint_bytes, free_bytes),
            *_rate_warnings(recipe, parent_lr),
        ),
        architecture=architecture,
        num_steps=num_steps,
        peak_lr=recipe.optimizer.lr,
    )


def _checkpoint_bytes(architecture: Architecture | None) -> int:
    """About the size of one training checkpoint; zero where it is not known."""
    parameters = architecture.num_parameters() if architecture else None
    return training_state_bytes(parameters) if parameters else 0


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _disk_warnings(recipe: Recipe, checkpoint_bytes: int, free_bytes: int) -> Iterator[str]:
    """What retention holds, and the one being written, against what is free."""
    number = recipe.runtime.checkpoint.keep_last + 1
    if checkpoint_bytes <= free_bytes < number * checkpoint_bytes:
        yield (
            f"{number} checkpoints of about {checkpoint_bytes:,} bytes may lie on the disk at "
            f"once, and {free_bytes:,} bytes are free"
        )


def _rate_warnings(recipe: Recipe, parent_lr: float | None) -> Iterator[str]:
    if parent_lr is not None and recipe.optimizer.lr > parent_lr:
        yield (
            f"optimizer.lr {recipe.optimizer.lr:g} is above the {parent_lr:g} the model was "
            "trained with before; it may forget what it knows"
        )


def _blocks(recipe: Recipe, item: PlanInput, split: str) -> Bound | None:
    """Blocks of a split; None when nothing is known, or the split does not exist."""
    if isinstance(item.artifact, TokenizedDataset):
        found = getattr(item.artifact, split)
        return found and Bound(found.num_blocks(recipe.sequence_length), is_exact=True)
    tokens = item.forecast.max_tokens.get(split)
    return None if tokens is None else Bound(tokens // (recipe.sequence_length + 1), is_exact=False)


def _num_steps(recipe: Recipe, blocks: Mapping[str, Bound | None]) -> int | None:
    return recipe.num_steps(_exact_blocks(blocks))


def _exact_blocks(blocks: Mapping[str, Bound | None]) -> int | None:
    """Training blocks of all datasets together; None while one does not exist."""
    total = 0
    for bound in blocks.values():
        if bound is None or not bound.is_exact:
            return None
        total += bound.blocks
    return total


def _batch_problems(recipe: Recipe) -> Iterator[str]:
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
    if runtime.checkpoint.format == "sharded" and (world_size == 1 or runtime.strategy == "ddp"):
        yield "runtime.checkpoint.format sharded needs strategy fsdp and more than one process"


def _largest_fit(recipe: Recipe) -> int:
    world_size = recipe.runtime.devices * recipe.runtime.num_nodes
    per_device = max(1, recipe.global_batch_size // world_size)
    sizes = range(min(recipe.runtime.micro_batch_size, per_device), 0, -1)
    return next((size for size in sizes if per_device % size == 0), 1)


def _step_problems(recipe: Recipe, num_steps: int | None, start_step: int | None) -> Iterator[str]:
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


def _data_problems(
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
        bound = blocks[ref]
        if bound is not None and not bound.blocks:
            yield (
                f"dataset {ref!r} has too few tokens for one block of sequence_length "
                f"{recipe.sequence_length:,}; shorten the sequences or add text"
            )
        if recipe.evaluate is None:
            continue
        validation = _blocks(recipe, item, "validation")
        has_none = (
            item.artifact.validation is None
            if isinstance(item.artifact, TokenizedDataset)
            else item.forecast.has_validation is False
        )
        if has_none or (validation is not None and not validation.blocks):
            yield (
                f"dataset {ref!r} has no validation block of sequence_length "
                f"{recipe.sequence_length:,}: enlarge its validation split, "
                "or say `evaluate: null`"
            )


def _model_problems(
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


def _warnings(recipe: Recipe, num_steps: int | None, start_step: int | None) -> Iterator[str]:
    if not num_steps or start_step is None:
        return
    if recipe.max_tokens is not None and (rest := recipe.max_tokens % recipe.tokens_per_step):
        yield (
            f"max_tokens is not a whole number of {recipe.tokens_per_step:,}-token steps; "
            f"the last {rest:,} tokens are not trained on"
        )
    policy = recipe.runtime.checkpoint
    if policy.every is not None and _never_due(policy.every, recipe, num_steps):
        yield (
            f"runtime.checkpoint.every is {policy.every}, more than the run's {num_steps:,} steps; "
            "an interrupted run starts over"
        )


def _never_due(every: Amount, recipe: Recipe, num_steps: int) -> bool:
    return every.in_steps(num_steps, recipe.tokens_per_step) > num_steps


def _facts(
    recipe: Recipe,
    architecture: Architecture | None,
    num_steps: int | None,
    start_step: int | None,
    blocks: Mapping[str, Bound | None],
) -> dict[str, int | float | str]:
    facts: dict[str, int | float | str] = {}
    if num_steps is not None:
        own_steps = num_steps - (start_step or 0)
        intervals = intervals_of(recipe, num_steps)
        warmup = intervals_of(recipe, max(1, own_steps)).warmup_steps
        facts |= {
            "steps": own_steps,
            "tokens": own_steps * recipe.tokens_per_step,
            "warmup_steps": warmup,
            "checkpoints": _num_checkpoints(num_steps, start_step or 0, intervals.checkpoint_every),
        }
        num_blocks = _exact_blocks(blocks)
        if num_blocks:
            facts["epochs"] = round(own_steps * recipe.global_batch_size / num_blocks, 3)
    if size := _checkpoint_bytes(architecture):
        facts["checkpoint_bytes"] = size
    if isinstance(recipe.schedule, ResumeSchedule):
        facts["schedule"] = recipe.schedule.kind
    return facts


def _num_checkpoints(num_steps: int, start_step: int, every: int | None) -> int:
    """How many are written: at each multiple of `every`, and at the end."""
    return 1 if every is None else -(-num_steps // every) - start_step // every
