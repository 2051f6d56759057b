from pathlib import Path

import pytest
import torch

from continuum.errors import IntegrityError
from continuum.experiment.architecture import architecture
from continuum.runs.text_records import spread
from continuum.training.data import (
    Blocks,
    Share,
    TrainingData,
    ValidationData,
    rows_at_once,
)
from continuum.training.order import SampleOrder
from tests.training.samples import (
    LENGTH,
    VOCABULARY,
    blocks_of,
    cut,
    token_stream,
    write_split,
)

# litdata maps its files read-only and copies at once.

GLOBAL_BATCH = 8
Rows = list[list[int]]


def training_data(sources: list[Blocks], share: Share, seed: int = 11) -> TrainingData:
    weights = (0.75, 0.25)[: len(sources)]
    digests = ("1" * 64, "2" * 64)[: len(sources)]
    order = SampleOrder(seed, tuple(len(source) for source in sources), weights, digests)
    return TrainingData(sources, order, GLOBAL_BATCH, share)


def rows_of(data: TrainingData, step: int) -> list[Rows]:
    """The rows of each micro-batch: inputs and the last target."""
    return [
        torch.cat([inputs, targets[:, -1:]], dim=1).tolist()
        for inputs, targets in data.micro_batches(step)
    ]


def global_batch(sources: list[Blocks], world_size: int, micro: int, step: int) -> Rows:
    """A step's rows over all processes, in the order of the samples."""
    by_rank = [
        rows_of(training_data(sources, Share(rank, world_size, micro)), step)
        for rank in range(world_size)
    ]
    return [row for batches in zip(*by_rank, strict=True) for batch in batches for row in batch]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Blocks]:
    folder = tmp_path_factory.mktemp("tokens")
    return [
        blocks_of(folder / "one", token_stream(400, seed=1), chunk_tokens=100),
        blocks_of(folder / "two", token_stream(90, seed=2)),
    ]


@pytest.mark.parametrize("chunk_tokens", [10_000, 100, 27, 10])
def test_blocks_are_the_token_stream_cut_inside_its_chunks(
    tmp_path: Path, chunk_tokens: int
) -> None:
    ids = token_stream(500)
    blocks = blocks_of(tmp_path, ids, chunk_tokens=chunk_tokens)
    expected = cut(ids, chunk_tokens)
    assert [blocks.read(number).tolist() for number in range(len(blocks))] == expected


def test_the_record_counts_the_blocks_that_are_there(tmp_path: Path) -> None:
    split = write_split(tmp_path, token_stream(500), chunk_tokens=100)
    num_blocks = len(Blocks(tmp_path, LENGTH, VOCABULARY))
    assert split.num_blocks(LENGTH) == num_blocks == 5 * (100 // (LENGTH + 1))


def test_a_token_that_no_tokenizer_gave_is_damage(tmp_path: Path) -> None:
    ids = token_stream(500)
    write_split(tmp_path, ids)
    (chunk,) = tmp_path.glob("*.bin")
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-40] + b"\xff" * 40)
    blocks = Blocks(tmp_path, LENGTH, VOCABULARY, "tokens@final")
    assert blocks.read(0).tolist() == ids[: LENGTH + 1]
    with pytest.raises(IntegrityError) as error:
        blocks.read(len(blocks) - 1)
    assert "invalid token 65535 (the tokenizer has 64 ids)" in str(error.value)
    assert "rebuild it with `continuum run --rerun tokens`" in str(error.value)


def test_an_index_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    write_split(tmp_path, token_stream(500))
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"not a valid litdata index.*--rerun tokens"):
        Blocks(tmp_path, LENGTH, VOCABULARY, "tokens")


def test_large_ids_are_read_as_they_were_written(tmp_path: Path) -> None:
    ids = [65_535, 32_768, 32_767, 0, 1, 2, 3, 4, 5]
    write_split(tmp_path, ids)
    assert Blocks(tmp_path, LENGTH, 65_536).read(0).tolist() == ids


def test_targets_are_inputs_shifted_by_one(sources: list[Blocks]) -> None:
    for inputs, targets in training_data(sources, Share(0, 1, 4)).micro_batches(0):
        assert inputs.shape == targets.shape == (4, LENGTH)
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        assert inputs.dtype == targets.dtype == torch.int64


def test_a_batch_holds_the_blocks_that_the_order_names(sources: list[Blocks]) -> None:
    data = training_data(sources, Share(0, 1, 4))
    for step in (0, 1, 7):
        named = [sources[dataset].read(block).tolist() for dataset, block in data.sample_ids(step)]
        assert [row for batch in rows_of(data, step) for row in batch] == named


@pytest.mark.parametrize(
    ("world_size", "micro"), [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (4, 1), (4, 2)]
)
def test_processes_and_micro_batches_do_not_change_the_samples_or_their_order(
    sources: list[Blocks], world_size: int, micro: int
) -> None:
    for step in (0, 3):
        assert global_batch(sources, world_size, micro, step) == global_batch(sources, 1, 8, step)


def test_processes_share_a_batch_without_overlap(sources: list[Blocks]) -> None:
    batches = [rows_of(training_data(sources[:1], Share(rank, 2, 2)), 0) for rank in (0, 1)]
    blocks = [tuple(row) for rank in batches for batch in rank for row in batch]
    assert len(blocks) == len(set(blocks)) == GLOBAL_BATCH
    assert [len(rank) for rank in batches] == [2, 2]


def test_a_step_over_the_border_of_two_epochs_reads_on(tmp_path: Path) -> None:
    ids = token_stream(20 * (LENGTH + 1))
    data = training_data([blocks_of(tmp_path, ids)], Share(0, 1, 8))
    read = [row for step in range(5) for batch in rows_of(data, step) for row in batch]
    assert len(read) == 40
    assert sorted(read[:20]) == sorted(read[20:]) == sorted(cut(ids))
    assert read[:20] != read[20:]
    assert data.blocks_read(5) == [40]


def test_a_dataset_smaller_than_a_batch_is_read_more_than_once(tmp_path: Path) -> None:
    ids = token_stream(3 * (LENGTH + 1))
    data = training_data([blocks_of(tmp_path, ids)], Share(0, 1, 8))
    rows = [row for batch in rows_of(data, 0) for row in batch]
    assert sorted(rows[:3]) == sorted(rows[3:6]) == sorted(cut(ids))


def evaluated(source: Blocks, num_sequences: int, **share: int) -> list[tuple[int, Rows]]:
    """The number and the rows of each of a process's batches that counts."""
    batches = ValidationData(source, num_sequences, **{"rows": 4, **share}).batches()
    return [
        (batch.number, torch.cat([batch.inputs, batch.targets[:, -1:]], dim=1).tolist())
        for batch in batches
        if batch.number is not None
    ]


@pytest.mark.parametrize(
    ("num_blocks", "num_sequences", "blocks"),
    [
        (100, 4, [12, 37, 62, 87]),
        (10, 3, [1, 5, 8]),
        (7, 7, [0, 1, 2, 3, 4, 5, 6]),
        (9, 8, [0, 1, 2, 3, 5, 6, 7, 8]),
        (5, 1, [2]),
    ],
)
def test_validation_is_spread_evenly_over_the_split(
    num_blocks: int, num_sequences: int, blocks: list[int]
) -> None:
    assert spread(num_blocks, num_sequences) == blocks


def test_every_evaluation_reads_the_same_blocks(sources: list[Blocks]) -> None:
    first, again = (evaluated(sources[0], 12) for _ in range(2))
    assert first == again
    expected = [sources[0].read(number).tolist() for number in spread(len(sources[0]), 12)]
    assert [row for _, rows in first for row in rows] == expected


def test_all_of_a_small_split_is_evaluated_and_the_last_batch_may_be_smaller(
    sources: list[Blocks],
) -> None:
    assert len(sources[1]) == 10
    assert ValidationData(sources[1], 100, rows=4).num_rows == [4, 4, 2]
    assert [len(rows) for _, rows in evaluated(sources[1], 100)] == [4, 4, 2]


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_processes_share_the_very_batches_of_one(sources: list[Blocks], world_size: int) -> None:
    shares = [evaluated(sources[0], 10, rank=r, world_size=world_size) for r in range(world_size)]
    assert sorted(batch for share in shares for batch in share) == evaluated(sources[0], 10)


def test_every_process_gets_as_many_batches_as_the_others(sources: list[Blocks]) -> None:
    data = [ValidationData(sources[0], 10, rows=4, rank=r, world_size=2) for r in range(2)]
    assert [len(list(each.batches())) for each in data] == [2, 2]


def test_rows_of_an_evaluation_hang_on_the_model_alone() -> None:
    fields = architecture("pythia-14m").fields
    assert rows_at_once(fields, "32-true") == fields["n_layer"] // 2 == 3
    assert rows_at_once({**fields, "n_layer": 1}, "32-true") == 1
    assert rows_at_once({**fields, "final_logit_softcapping": 30.0}, "32-true") == 1


def test_an_id_equal_to_the_vocabularys_size_is_none_of_its_tokens(tmp_path: Path) -> None:
    inside = blocks_of(tmp_path / "inside", [VOCABULARY - 1] * (LENGTH + 1))
    assert inside.read(0).tolist() == [VOCABULARY - 1] * (LENGTH + 1)
    beyond = blocks_of(tmp_path / "beyond", [0] * LENGTH + [VOCABULARY])
    with pytest.raises(IntegrityError, match=f"invalid token {VOCABULARY}"):
        beyond.read(0)
