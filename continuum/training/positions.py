"""Where training stands in each dataset: where a stage begins, and what its checkpoints say.

A dataset is known by its digest. What its ancestors read a model does not read again while the
epoch lasts, so a stage begins where they ended, if it reads the same blocks in the same order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from continuum.experiment.recipe import Recipe
from continuum.preflight.reading import why_restarts
from continuum.runs.artifacts import DataPosition, TokenizedDataset
from continuum.training.order import SampleOrder

Positions = dict[str, DataPosition]
"""By the dataset's digest."""


@dataclass(frozen=True)
class Part:
    """One dataset of a stage, however many names it has there."""

    ref: str
    """For messages."""
    dataset: TokenizedDataset
    weight: float
    num_blocks: int


def mixture_of(recipe: Recipe, datasets: Mapping[str, TokenizedDataset]) -> list[Part]:
    """The datasets of a recipe: the largest share first, and equal ones by digest.

    The samples hang on this order, so no name may decide it.
    """
    parts: dict[str, Part] = {}
    for ref, share in recipe.data.items():
        dataset = datasets[ref]
        known = parts.get(dataset.digest)
        weight = share + (known.weight if known else 0.0)
        num_blocks = dataset.train.num_blocks(recipe.sequence_length)
        parts[dataset.digest] = Part(known.ref if known else ref, dataset, weight, num_blocks)
    return sorted(parts.values(), key=lambda part: (-part.weight, part.dataset.digest))


def begin(
    parts: Iterable[Part], recipe: Recipe, read: Mapping[str, DataPosition] | None, how: str
) -> Positions:
    """Where a new stage begins, in datasets that it does not read too: these it passes on.

    Args:
        read: Where its model's training stands.
        how: `continue` or `restart`.
    """
    assert recipe.data_seed is not None, "the planner fills it in"
    starts = dict(read or {})
    for part in parts:
        before = starts.get(part.dataset.digest)
        if before is None or why_restarts(recipe, before.seed, before.sequence_length, how):
            starts[part.dataset.digest] = DataPosition(
                seed=recipe.data_seed,
                sequence_length=recipe.sequence_length,
                epoch=0,
                blocks_read=0,
                passes=before.passes if before else 0.0,
            )
    return starts


def told(
    parts: Iterable[Part], recipe: Recipe, read: Mapping[str, DataPosition] | None, how: str
) -> dict[str, dict[str, Any]]:
    """By the datasets' names, for the record: where they are read from, and why not further on."""
    starts = begin(parts, recipe, read, how)
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        digest = part.dataset.digest
        before, start = (read or {}).get(digest), starts[digest]
        why = before and why_restarts(recipe, before.seed, before.sequence_length, how)
        place = {"sha256": digest, "epoch": start.epoch, "blocks_read": start.blocks_read}
        found[part.ref] = {**place, **({"restarts": why} if why else {})}
    return found


def order_of(parts: list[Part], seed: int, starts: Mapping[str, DataPosition]) -> SampleOrder:
    """The order of a stage's samples."""
    return SampleOrder(
        seed,
        tuple(part.num_blocks for part in parts),
        tuple(part.weight for part in parts),
        tuple(part.dataset.digest for part in parts),
        tuple(_blocks_before(starts[part.dataset.digest], part) for part in parts),
    )


def positions_after(
    parts: list[Part], starts: Mapping[str, DataPosition], blocks_read: list[int]
) -> Positions:
    """Where training stands after so many blocks of each part."""
    found = dict(starts)
    for part, read in zip(parts, blocks_read, strict=True):
        start = starts[part.dataset.digest]
        epoch, in_epoch = divmod(read, part.num_blocks)
        own = (read - _blocks_before(start, part)) / part.num_blocks
        found[part.dataset.digest] = start.model_copy(
            update={"epoch": epoch, "blocks_read": in_epoch, "passes": start.passes + own}
        )
    return found


def _blocks_before(start: DataPosition, part: Part) -> int:
    return start.epoch * part.num_blocks + start.blocks_read
