import json
from pathlib import Path

import numpy as np
import pytest
import torch
from litdata.streaming import StreamingDataset, TokensLoader
from litgpt.data import LitData

from continuum.errors import StageFailedError
from continuum.runs.files import hash_tree
from continuum.runs.text_records import Split
from continuum.text.dataset import SplitWriter, token_dtype


# litdata maps its files read-only and copies at once; LitGPT asks for pinned memory always.
def write(folder: Path, ids: list[int], *, dtype: str, chunk_bytes: int = 1 << 20) -> Split:
    writer = SplitWriter(folder, dtype=dtype, chunk_bytes=chunk_bytes)
    for start in range(0, len(ids), 700):
        writer.append(np.array(ids[start : start + 700], dtype=np.uint32))
    writer.end_document()
    return writer.close()


def blocks(folder: Path, size: int) -> list[list[int]]:
    dataset = StreamingDataset(
        str(folder), item_loader=TokensLoader(block_size=size), shuffle=False
    )
    return [dataset[index].tolist() for index in range(len(dataset))]


@pytest.mark.parametrize(
    ("num_ids", "dtype"), [(65_535, "uint16"), (65_536, "uint16"), (65_537, "int32")]
)
def test_tokens_take_two_bytes_where_every_id_fits(num_ids: int, dtype: str) -> None:
    assert token_dtype(num_ids) == dtype


@pytest.mark.parametrize(("dtype", "largest"), [("uint16", 65_535), ("int32", 2**31 - 1)])
def test_litdata_reads_back_the_stream_of_tokens(tmp_path: Path, dtype: str, largest: int) -> None:
    ids = np.linspace(0, largest, 5000).astype(np.int64).tolist()
    split = write(tmp_path, ids, dtype=dtype)
    assert split == Split(num_tokens=5000, num_documents=1, chunk_tokens=(5000,))
    assert [token for block in blocks(tmp_path, 100) for token in block] == ids


def test_chunks_are_full_and_blocks_stay_inside_them(tmp_path: Path) -> None:
    split = write(tmp_path, list(range(2500)), dtype="uint16", chunk_bytes=2000)
    assert split.chunk_tokens == (1000, 1000, 500)
    found = blocks(tmp_path, 300)
    assert [block[0] for block in found] == [0, 300, 600, 1000, 1300, 1600, 2000]
    assert len(found) == split.num_blocks(299)


def test_a_last_chunk_of_one_token_is_written(tmp_path: Path) -> None:
    assert write(tmp_path, list(range(1001)), dtype="uint16", chunk_bytes=2000).chunk_tokens == (
        1000,
        1,
    )


def test_an_empty_split_writes_nothing(tmp_path: Path) -> None:
    split = SplitWriter(tmp_path / "none", dtype="uint16").close()
    assert split == Split(num_tokens=0, num_documents=0, chunk_tokens=())
    assert not (tmp_path / "none").exists()


def test_equal_tokens_make_equal_files_without_time_or_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, list(range(3000)), dtype="uint16", chunk_bytes=2000)
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [
        "chunk-0-0.bin",
        "chunk-0-1.bin",
        "chunk-0-2.bin",
        "index.json",
    ]
    assert str(tmp_path) not in (tmp_path / "a" / "index.json").read_text(encoding="utf-8")


def test_the_index_depends_on_the_tokens(tmp_path: Path) -> None:
    stamps = set()
    for name, ids in (("a", [1, 2]), ("b", [1, 3])):
        write(tmp_path / name, ids, dtype="uint16")
        stamps.add(json.loads((tmp_path / name / "index.json").read_bytes())["updated_at"])
    assert len(stamps) == 2


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_litgpts_own_data_module_trains_on_it(tmp_path: Path, dtype: str) -> None:
    ids = list(range(2000))
    for name in ("train", "validation"):
        write(tmp_path / name, ids, dtype=dtype)
    data = LitData(tmp_path, split_names=("train", "validation"), num_workers=0)
    data.connect(batch_size=2, max_seq_length=49)
    batches = [batch.long() for batch in data.val_dataloader()]
    assert torch.cat(batches).flatten().tolist() == ids
    assert len(list(data.train_dataloader())) == 20


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_loader_processes_pass_the_tokens_on(tmp_path: Path, dtype: str) -> None:
    write(tmp_path / "train", list(range(2000)), dtype=dtype)
    data = LitData(tmp_path / "train", num_workers=1)
    data.connect(batch_size=2, max_seq_length=49)
    found = torch.cat([batch.long() for batch in data.val_dataloader()])
    assert sorted(found.flatten().tolist()) == list(range(2000))


def test_a_litdata_workers_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_OPTIMIZER_GLOBAL_RANK", "0")
    with pytest.raises(StageFailedError, match="unset it"):
        write(tmp_path, [1, 2], dtype="uint16")
