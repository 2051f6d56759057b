from pathlib import Path

import pytest

from continuum.artifacts import TokenizedDataset
from continuum.errors import PreflightError
from continuum.training.data import Share
from continuum.training.setup import validation_data
from tests.training.samples import LENGTH, make_dataset, make_recipe, token_stream, write_split


@pytest.fixture
def dataset(tmp_path: Path) -> TokenizedDataset:
    """A dataset with four validation blocks on disk."""
    tokens = token_stream(4 * (LENGTH + 1))
    write_split(tmp_path / "validation", tokens)
    return make_dataset(validation=len(tokens)).model_copy(update={"path": tmp_path})


@pytest.mark.parametrize(("world_size", "micro"), [(2, 2), (4, 1), (1, 4)])
def test_every_process_gets_its_rows_of_the_validation_split(
    dataset: TokenizedDataset, world_size: int, micro: int
) -> None:
    runtime = {"devices": world_size, "micro_batch_size": micro}
    recipe = make_recipe(evaluate={}, runtime=runtime)
    for rank in range(world_size):
        split = validation_data(recipe, {"tokens": dataset}, Share(rank, world_size, micro))
        rows = [number for _, _, number in split["tokens"].batches()]
        assert sum(rows) == 4 // world_size


def test_a_validation_split_too_small_for_the_processes_is_refused_at_run_time(
    dataset: TokenizedDataset,
) -> None:
    recipe = make_recipe(evaluate={}, runtime={"devices": 4, "micro_batch_size": 2})
    with pytest.raises(PreflightError, match=r"which is 2 micro-batch\(es\) of 2 for 4 processes"):
        validation_data(recipe, {"tokens": dataset}, Share(0, 4, 2))
    bare = dataset.model_copy(update={"validation": None})
    with pytest.raises(PreflightError, match="has no validation block of sequence_length 8"):
        validation_data(recipe, {"tokens": bare}, Share(0, 4, 2))
