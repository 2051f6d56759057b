"""The order of training samples: which block is the n-th sample, and where a stage starts reading.

The order is a pure function of seed, datasets, starts and n. Workers, ranks, micro-batches,
restarts and names do not enter, so any process can compute any part of it at any time. A dataset
is identified by its digest, so its order is the same in every stage that has the same seed. A stage
starts where its ancestors stopped reading, if it reads the same blocks in the same order: no block
is repeated within an epoch.

An epoch's shuffle is a Feistel network over the block numbers (a keyed bijection, as in
format-preserving encryption: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002),
which needs no table and depends on no library's random stream. A mixture distributes its samples by
largest remainder, so every prefix of the run has the requested shares to within one sample of each
dataset.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from continuum.experiment.recipe import Recipe
from continuum.preflight.reading import why_restarts
from continuum.runs.artifacts import DataPosition, TokenizedDataset

PERIOD = 10_000
"""Samples after which a mixture's pattern repeats; weights are exact to 1/PERIOD."""
ROUNDS = 10
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)

Indices = NDArray[np.int64]
Positions = dict[str, DataPosition]
"""By the dataset's digest."""


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), element by element."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _MIX_1
        values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def shuffled(positions: Indices, size: int, keys: NDArray[np.uint64]) -> Indices:
    """Where a keyed permutation of `range(size)` sends each position.

    Args:
        positions: In `range(size)`.
        size: Number of elements.
        keys: One key for each position; equal keys mean the same permutation.
    """
    half_bits = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half_bits)) - 1)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    # Cycle walking: the network permutes the next power of four; step on until back inside.
    while outside.any():
        left, right = values[outside] >> half_bits, values[outside] & mask
        key = keys[outside]
        for number in range(ROUNDS):
            with np.errstate(over="ignore"):
                round_key = key + np.uint64(number + 1) * _STEP
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        values[outside] = (left << half_bits) | right
        outside &= values >= np.uint64(size)
    return values.astype(np.int64)


@dataclass(frozen=True)
class SampleOrder:
    """The infinite sequence of samples over one or more datasets."""

    seed: int
    num_blocks: tuple[int, ...]
    """Training blocks of each dataset."""
    weights: tuple[float, ...]
    digests: tuple[str, ...]
    """SHA-256 of each dataset, as hexadecimal."""
    starts: tuple[int, ...] = ()
    """Blocks of each dataset that were already read in this order; by default none."""

    @cached_property
    def _starts(self) -> Indices:
        return np.array(self.starts or [0] * len(self.weights), dtype=np.int64)

    @cached_property
    def _quotas(self) -> Indices:
        return _quotas(self.weights)

    @cached_property
    def _pattern(self) -> tuple[Indices, Indices]:
        return _pattern(tuple(self._quotas.tolist()))

    def samples(self, start: int, stop: int) -> tuple[Indices, Indices]:
        """Dataset numbers and block numbers of the samples `start` … `stop - 1`."""
        positions = np.arange(start, stop, dtype=np.int64)
        period, within = np.divmod(positions, PERIOD)
        datasets = self._pattern[0][within]
        draws = self._starts[datasets] + period * self._quotas[datasets] + self._pattern[1][within]
        blocks: Indices = np.empty_like(draws, dtype=np.int64)
        for dataset, size in enumerate(self.num_blocks):
            chosen = datasets == dataset
            epochs, offsets = np.divmod(draws[chosen], size)
            blocks[chosen] = shuffled(offsets, size, self._keys(dataset, epochs))
        return datasets, blocks

    def blocks_read(self, num_samples: int) -> list[int]:
        """Blocks of each dataset read after `num_samples` samples, starts included.

        Counting continues beyond a dataset's size.
        """
        period, within = divmod(num_samples, PERIOD)
        ranks = np.bincount(self._pattern[0][:within], minlength=len(self.weights))
        found: list[int] = (self._starts + period * self._quotas + ranks).tolist()
        return found

    def _keys(self, dataset: int, epochs: Indices) -> NDArray[np.uint64]:
        base = np.array([self.seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
        with np.errstate(over="ignore"):
            base = _mix(_mix(base + _STEP) + np.uint64(int(self.digests[dataset][:16], 16)) * _STEP)
            return _mix(base + (epochs.astype(np.uint64) + np.uint64(1)) * _STEP)


def _quotas(weights: tuple[float, ...]) -> Indices:
    """Samples of each dataset in a period, by largest remainder."""
    exact = np.asarray(weights) / sum(weights) * PERIOD
    quotas = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: PERIOD - int(quotas.sum())]] += 1
    return quotas


@cache
def _pattern(quotas: tuple[int, ...]) -> tuple[Indices, Indices]:
    """For each place in a period: the dataset, and how many of its samples came before.

    Tijdeman's rule ("The chairman assignment problem", 1980): among the datasets that are far
    enough behind, take the one with the earliest deadline. Taking the one that is furthest behind
    would deviate from the shares by more than one sample with five or more datasets.
    """
    places, counts = [], [0] * len(quotas)
    parts = 2 * max(1, len(quotas) - 1)
    allowed = PERIOD * (parts - 1) / parts

    for place in range(1, PERIOD + 1):
        chosen, least = -1, math.inf
        for dataset, quota in enumerate(quotas):
            behind = quota * place - counts[dataset] * PERIOD
            if behind * parts >= PERIOD and (allowed - behind) / quota < least:
                chosen, least = dataset, (allowed - behind) / quota
        places.append((chosen, counts[chosen]))
        counts[chosen] += 1
    datasets, ranks = np.array(places, dtype=np.int64).T
    return datasets, ranks


@dataclass(frozen=True)
class Part:
    """One dataset of a stage, however many names it has there."""

    ref: str
    """Its first name, for messages."""
    dataset: TokenizedDataset
    weight: float
    num_blocks: int


def mixture_of(recipe: Recipe, datasets: Mapping[str, TokenizedDataset]) -> list[Part]:
    """A recipe's datasets by decreasing share, and by digest where shares are equal.

    The order of samples depends on this order, so names must not.
    """
    parts: dict[str, Part] = {}
    for ref, share in recipe.data.items():
        dataset = datasets[ref]
        known = parts.get(dataset.digest)
        weight = share + (known.weight if known else 0.0)
        num_blocks = dataset.train.num_blocks(recipe.sequence_length)
        parts[dataset.digest] = Part(known.ref if known else ref, dataset, weight, num_blocks)
    return sorted(parts.values(), key=lambda part: (-part.weight, part.dataset.digest))


def start_positions(
    parts: Iterable[Part], recipe: Recipe, read: Mapping[str, DataPosition] | None, how: str
) -> tuple[Positions, dict[str, str]]:
    """Where a new stage starts reading, and by digest why a dataset is read from its beginning.

    Positions in datasets that this stage does not read are passed on.

    Args:
        read: Positions that the training of the stage's model has reached.
        how: `continue` or `restart`.
    """
    assert recipe.data_seed is not None, "the planner fills it in"
    starts, restarts = dict(read or {}), {}
    for part in parts:
        digest = part.dataset.digest
        before = starts.get(digest)
        if before is not None:
            why = why_restarts(recipe, before.seed, before.sequence_length, how)
            if not why:
                continue
            restarts[digest] = why
        starts[digest] = DataPosition(
            seed=recipe.data_seed,
            sequence_length=recipe.sequence_length,
            epoch=0,
            blocks_read=0,
            passes=before.passes if before else 0.0,
        )
    return starts, restarts


def order_of(parts: list[Part], seed: int, starts: Positions) -> SampleOrder:
    """The order of a stage's samples."""
    return SampleOrder(
        seed,
        tuple(part.num_blocks for part in parts),
        tuple(part.weight for part in parts),
        tuple(part.dataset.digest for part in parts),
        tuple(_blocks_before(starts[part.dataset.digest], part) for part in parts),
    )


def positions_after(parts: list[Part], starts: Positions, blocks_read: list[int]) -> Positions:
    """The position in each dataset after this many blocks of each part."""
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
