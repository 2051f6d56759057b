import hashlib
import itertools
from dataclasses import replace

import numpy as np
import pytest

from continuum.training.order import PERIOD, SampleOrder, shuffled

GOLDEN = [
    560, 652, 937, 316, 233, 361, 357, 675, 74, 362,
    471, 332, 832, 686, 393, 856, 242, 124, 731, 858,
]  # fmt: skip
GOLDEN_DATASETS = [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]
GOLDEN_MIXTURE = [
    560, 652, 1, 937, 316, 233, 9, 361, 357, 675,
    0, 74, 362, 471, 5, 332, 832, 686, 7, 393,
]  # fmt: skip


DIGESTS = tuple(hashlib.sha256(bytes([number])).hexdigest() for number in range(20))


def order(num_blocks: int = 50, seed: int = 1, start: int = 0) -> SampleOrder:
    return SampleOrder(seed, (num_blocks,), (1.0,), DIGESTS[:1], (start,))


def mixed(seed: int, sizes: tuple[int, ...], weights: tuple[float, ...]) -> SampleOrder:
    return SampleOrder(seed, sizes, weights, DIGESTS[: len(sizes)])


def epoch(of: SampleOrder, number: int = 0) -> list[int]:
    size = of.num_blocks[0]
    blocks: list[int] = of.samples(number * size, (number + 1) * size)[1].tolist()
    return blocks


@pytest.mark.parametrize("size", [*range(1, 71), 1000, 2**20 + 7])
def test_an_epoch_holds_every_block_once(size: int) -> None:
    for number in (0, 1):
        start = number * size
        seen = np.sort(order(size).samples(start, start + size)[1])
        assert np.array_equal(seen, np.arange(size))


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_any_key_makes_a_permutation(key: int) -> None:
    keys = np.full(1000, key, dtype=np.uint64)
    assert sorted(shuffled(np.arange(1000), 1000, keys)) == list(range(1000))


def test_epochs_differ() -> None:
    epochs = {tuple(epoch(order(), number)) for number in range(20)}
    assert len(epochs) == 20


def test_seeds_differ() -> None:
    assert len({tuple(epoch(order(seed=seed))) for seed in range(20)}) == 20


def test_two_datasets_of_one_size_are_shuffled_apart() -> None:
    datasets, blocks = mixed(1, (50, 50), (1.0, 1.0)).samples(0, 100)
    assert blocks[datasets == 0].tolist() != blocks[datasets == 1].tolist()


def test_a_shuffled_epoch_is_spread_evenly() -> None:
    """Neighbours in the order are about a third of the range apart, as in a random one."""
    steps = np.abs(np.diff(epoch(order(10_000))))
    assert 0.3 < steps.mean() / 10_000 < 0.36


@pytest.mark.parametrize("bounds", [(0, 1), (0, 7), (13, 13), (45, 55), (49, 151), (99, 120)])
def test_any_part_can_be_computed_alone(bounds: tuple[int, int]) -> None:
    mixture = mixed(5, (50, 9), (0.7, 0.3))
    whole_datasets, whole_blocks = mixture.samples(0, 200)
    datasets, blocks = mixture.samples(*bounds)
    assert np.array_equal(datasets, whole_datasets[slice(*bounds)])
    assert np.array_equal(blocks, whole_blocks[slice(*bounds)])


def test_a_part_may_span_two_periods_of_the_mixture() -> None:
    mixture = mixed(5, (50, 9), (0.7, 0.3))
    whole = mixture.samples(0, 2 * PERIOD + 10)[1]
    assert np.array_equal(
        mixture.samples(PERIOD - 3, PERIOD + 4)[1], whole[PERIOD - 3 : PERIOD + 4]
    )


def test_each_dataset_of_a_mixture_is_read_in_whole_epochs() -> None:
    sizes = (50, 9, 31)
    datasets, blocks = mixed(5, sizes, (5.0, 2.0, 3.0)).samples(0, 3 * PERIOD)
    for dataset, size in enumerate(sizes):
        read = blocks[datasets == dataset]
        epochs = read[: len(read) // size * size].reshape(-1, size)
        assert np.array_equal(np.sort(epochs), np.tile(np.arange(size), (len(epochs), 1)))


MIXTURES = [
    (1.0, 1.0),
    (0.9, 0.1),
    (1.0, 2.0, 3.0),
    (0.5, 0.3, 0.1, 0.1),
    (0.9999, 0.0001),
    (1 / 3, 1 / 3, 1 / 3),
    (7.0, 5.0, 3.0, 2.0, 1.0, 1.0, 1.0),
    tuple(np.random.default_rng(4).dirichlet([0.5] * 12).clip(0.001).tolist()),
    tuple(np.random.default_rng(5).dirichlet([2.0] * 20).clip(0.001).tolist()),
]


@pytest.mark.parametrize("weights", MIXTURES, ids=len)
def test_every_prefix_holds_the_stated_shares_to_one_sample(weights: tuple[float, ...]) -> None:
    datasets, _ = mixed(1, (100,) * len(weights), weights).samples(0, PERIOD + 100)
    length = np.arange(1, PERIOD + 101)
    for dataset, weight in enumerate(weights):
        share = weight / sum(weights)
        # Shares are held to 1/PERIOD; over one period that is one sample more at the most.
        away = np.abs(np.cumsum(datasets == dataset) - share * length)
        assert away.max() <= 1 + length[-1] / PERIOD


def test_weights_are_shares_of_their_sum() -> None:
    for samples in zip(
        mixed(1, (50, 9), (7.0, 3.0)).samples(0, 100),
        mixed(1, (50, 9), (0.7, 0.3)).samples(0, 100),
        strict=True,
    ):
        assert np.array_equal(*samples)


def test_blocks_are_counted_for_each_dataset() -> None:
    mixture = mixed(1, (100, 10), (0.5, 0.5))
    assert mixture.blocks_read(40) == [20, 20]
    assert mixture.blocks_read(PERIOD + 40) == [5020, 5020]


@pytest.mark.parametrize("start", [1, 30, 50, 137])
def test_an_order_begun_further_on_is_the_rest_of_the_order(start: int) -> None:
    whole = order().samples(0, 300)[1]
    assert np.array_equal(order(start=start).samples(0, 300 - start)[1], whole[start:])
    assert order(start=start).blocks_read(7) == [start + 7]


def test_each_dataset_of_a_mixture_begins_where_it_is_told_to() -> None:
    fresh = mixed(5, (50, 9), (0.7, 0.3))
    begun = replace(fresh, starts=(3, 4))
    datasets, blocks = fresh.samples(0, 200)
    later_datasets, later_blocks = begun.samples(0, 100)
    assert np.array_equal(later_datasets, datasets[:100])
    for dataset, start in enumerate((3, 4)):
        rest = blocks[datasets == dataset][start:]
        later = later_blocks[later_datasets == dataset]
        assert np.array_equal(later, rest[: len(later)])


def test_a_dataset_is_read_in_one_order_whatever_is_beside_it() -> None:
    alone = order(9).samples(0, 30)[1]
    beside = SampleOrder(1, (50, 9), (0.5, 0.5), (DIGESTS[1], DIGESTS[0]))
    datasets, blocks = beside.samples(0, 60)
    assert np.array_equal(blocks[datasets == 1], alone)


def test_datasets_of_equal_size_and_other_bytes_are_read_in_other_orders() -> None:
    orders = {tuple(SampleOrder(1, (50,), (1.0,), (d,)).samples(0, 50)[1]) for d in DIGESTS}
    assert len(orders) == len(DIGESTS)


def test_a_seed_of_any_size_is_taken() -> None:
    seeds = [0, 1, 2**31, 2**32, 2**63, 2**64 - 1]
    epochs = [epoch(order(seed=seed)) for seed in seeds]
    assert all(a != b for a, b in itertools.pairwise(epochs))


def test_the_order_is_the_one_that_published_runs_were_trained_in() -> None:
    """A change here makes every recorded run unrepeatable: raise the kinds' `version` with it."""
    assert order(1000, seed=42).samples(0, 20)[1].tolist() == GOLDEN
    datasets, blocks = mixed(42, (1000, 10), (0.75, 0.25)).samples(0, 20)
    assert datasets.tolist() == GOLDEN_DATASETS
    assert blocks.tolist() == GOLDEN_MIXTURE
