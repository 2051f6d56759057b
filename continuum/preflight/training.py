"""What the plan says of a training stage: its numbers, its problems, its doubts."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from continuum.amounts import Amount
from continuum.architecture import Architecture, training_state_bytes
from continuum.preflight.fitness import (
    Bound,
    batch_problems,
    blocks_of,
    data_problems,
    model_problems,
    step_problems,
)
from continuum.recipe import Recipe, ResumeSchedule, intervals_of
from continuum.stage import Forecast, PlanInput


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
    blocks = {ref: blocks_of(recipe, item, "train") for ref, item in datasets.items()}
    num_steps = _num_steps(recipe, blocks)
    problems = [
        *batch_problems(recipe),
        *step_problems(recipe, num_steps, start_step),
        *data_problems(recipe, datasets, blocks),
        *model_problems(recipe, architecture, datasets),
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
