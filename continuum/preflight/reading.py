"""Where a stage will start reading its datasets, and the notes of the plan about it.

If a model's ancestors read part of a dataset, training continues in the same order, provided that
the stage has the same seed and sequence length. Otherwise the dataset is read from its beginning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from continuum.experiment.fields import Ref
from continuum.experiment.forecast import Reading
from continuum.experiment.recipe import Recipe
from continuum.experiment.stage import PlanInput
from continuum.runs.artifacts import Checkpoint, TokenizedDataset

CONTINUE = "continue"


def why_restarts(recipe: Recipe, seed: int | None, sequence_length: int, how: str) -> str:
    """Why a dataset is read from its beginning; empty if reading continues.

    Args:
        seed: Of the order in which it was read before.
        sequence_length: Of the blocks in which it was read before.
        how: `continue` or `restart`, from the stage.
    """
    if how != CONTINUE:
        return f"data_position: {how}"
    if seed != recipe.data_seed:
        return f"its data seed was {seed} and is {recipe.data_seed}"
    if sequence_length != recipe.sequence_length:
        return f"its sequence_length was {sequence_length:,} and is {recipe.sequence_length:,}"
    return ""


def read_by(parent: PlanInput, ref: Ref[Any]) -> dict[str, Reading]:
    """The position in each dataset that the training of the referenced model has or will reach."""
    artifact, forecast = parent.artifact, parent.forecast
    if isinstance(artifact, Checkpoint):
        return {
            digest: Reading(it.seed, it.sequence_length, epoch=it.epoch, blocks=it.blocks_read)
            for digest, it in (artifact.data_read or {}).items()
        }
    step = None if ref.metric is not None else ref.step or forecast.num_steps
    return {key: reading.at(step) for key, reading in forecast.reading.items()}


def begin_reading(
    recipe: Recipe,
    inputs: Mapping[str, PlanInput],
    read: Mapping[str, Reading] | None = None,
    how: str = CONTINUE,
) -> dict[str, Reading]:
    """How a stage that counts its own steps reads; positions in other datasets are passed on.

    Args:
        read: Positions that the training of its model has reached.
        how: `continue` or `restart`.
    """
    found = dict(read or {})
    for ref, weight in recipe.data.items():
        key, per_step = dataset_key(ref, inputs), _per_step(recipe, weight)
        before = found.get(key)
        if before is None:
            start = Reading(recipe.data_seed, recipe.sequence_length)
        elif why := why_restarts(recipe, before.seed, before.sequence_length, how):
            start = Reading(recipe.data_seed, recipe.sequence_length, restarts=why)
        else:
            start = before
        found[key] = replace(start, per_step=per_step)
    return found


def extend_reading(
    recipe: Recipe,
    inputs: Mapping[str, PlanInput],
    read: Mapping[str, Reading],
    start_step: int | None,
) -> dict[str, Reading]:
    """How a resume reads, whose steps continue its parent's count."""
    found = dict(read)
    for ref, weight in recipe.data.items():
        key = dataset_key(ref, inputs)
        if key in found:
            before = found[key] if start_step is not None else replace(found[key], blocks=None)
            found[key] = replace(
                before, per_step=_per_step(recipe, weight), from_step=start_step or 0
            )
    return found


def reading_notes(
    recipe: Recipe,
    inputs: Mapping[str, PlanInput],
    read: Mapping[str, Reading],
    own: Mapping[str, Reading],
) -> Iterator[str]:
    """Where each dataset is read from, if the model's ancestors read any of them.

    Args:
        read: Positions that the training of the model has reached.
        own: How the stage reads.
    """
    keys = {ref: dataset_key(ref, inputs) for ref in recipe.data}
    if read.keys() & set(keys.values()):
        parts = (_describe(ref, key in read, own[key], inputs[ref]) for ref, key in keys.items())
        yield f"data: {'; '.join(parts)}"


def dataset_key(ref: Ref[Any], inputs: Mapping[str, PlanInput]) -> str:
    """A dataset's digest once it exists, or else its stage's name."""
    artifact = inputs[ref].artifact
    return artifact.digest if isinstance(artifact, TokenizedDataset) else ref.stage


def _per_step(recipe: Recipe, weight: float) -> float:
    return recipe.global_batch_size * weight / sum(recipe.data.values())


def _describe(ref: str, was_read: bool, reading: Reading, dataset: PlanInput) -> str:
    if reading.restarts:
        return f"{ref} is read from its beginning ({reading.restarts})"
    if not was_read:
        return f"{ref} is new to the model"
    if reading.blocks is None:
        return f"{ref} is continued from where the parent ends"
    about = "" if float(reading.blocks).is_integer() else "about "
    blocks, epoch = round(reading.blocks), reading.epoch
    if isinstance(dataset.artifact, TokenizedDataset):
        size = dataset.artifact.train.num_blocks(reading.sequence_length)
        more, blocks = divmod(blocks, max(1, size))
        return (
            f"{ref} is continued after {about}{blocks:,} of the {size:,} blocks of "
            f"epoch {epoch + more + 1:,}"
        )
    return f"{ref} is continued after {about}{blocks:,} blocks"
