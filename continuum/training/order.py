"""Which block is the n-th training sample: a pure function of seed, datasets, starts and n.

Nothing about workers, ranks, micro-batches, restarts or names enters, so any process can compute
any part of the order at any time. A dataset is known by its digest, so its order is the same in
every stage that has the same seed: a stage may begin where another one ended.

An epoch's shuffle is a Feistel network over the block numbers (a keyed bijection, as in
format-preserving encryption: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002),
which needs no table and depends on no library's random stream. A mixture deals its samples by
largest remainder, so every prefix of the run holds the stated shares to within one sample of each
dataset.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

PERIOD = 10_000
"""Samples after which a mixture's pattern repeats; weights are exact to 1/PERIOD."""
ROUNDS = 10
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)

Indices = NDArray[np.int64]


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
    """Blocks of each dataset that were read in this order before; none unless said."""

    def __post_init__(self) -> None:
        quotas = _quotas(self.weights)
        starts: Indices = np.array(self.starts or [0] * len(self.weights), dtype=np.int64)
        object.__setattr__(self, "_starts", starts)
        object.__setattr__(self, "_quotas", quotas)
        object.__setattr__(self, "_pattern", _pattern(tuple(quotas.tolist())))

    _starts: Indices = None  # type: ignore[assignment]  # set in __post_init__
    _quotas: Indices = None  # type: ignore[assignment]
    _pattern: tuple[Indices, Indices] = None  # type: ignore[assignment]

    def samples(self, start: int, stop: int) -> tuple[Indices, Indices]:
        """Dataset number and block number of the samples `start` … `stop - 1`."""
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
        """Blocks of each dataset that have been read after `num_samples` samples, starts included.

        Beyond a dataset's size they go on counting.
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
    """Whole samples of each dataset in a period, by largest remainder."""
    exact = np.asarray(weights) / sum(weights) * PERIOD
    quotas = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - quotas), kind="stable")
    quotas[order[: PERIOD - int(quotas.sum())]] += 1
    return quotas


@cache
def _pattern(quotas: tuple[int, ...]) -> tuple[Indices, Indices]:
    """For each place in a period: the dataset, and how many of its samples came before.

    Tijdeman's rule ("The chairman assignment problem", 1980): among the datasets that are behind
    by enough, the one that would be too late first. Taking the one that is furthest behind would
    stray from the shares by more than a sample where there are five datasets or more.
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
