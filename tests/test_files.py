import errno
import os
from pathlib import Path

import pytest

from continuum.runs.files import (
    SIDE_BY_SIDE_BYTES,
    find_damage,
    hash_tree,
    sha256_file,
)
from continuum.training.checkpoint import PARALLEL_BYTES, HashingWriter

SIZES = (1, PARALLEL_BYTES - 1, 0, PARALLEL_BYTES, 3 * PARALLEL_BYTES + 7, 5)


def test_blocks_of_any_size_are_written_and_hashed_in_their_order(tmp_path: Path) -> None:
    blocks = [os.urandom(size) for size in SIZES]
    with (tmp_path / "file").open("wb") as file, HashingWriter(file) as writer:
        assert [writer.write(memoryview(block)) for block in blocks] == list(SIZES)
    assert (tmp_path / "file").read_bytes() == b"".join(blocks)
    assert writer.sha256 == sha256_file(tmp_path / "file")
    assert writer.size_bytes == sum(SIZES)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_the_error_of_the_block_that_no_longer_fits() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        HashingWriter(file) as writer,
        pytest.raises(OSError, match="No space") as caught,
    ):
        writer.write(bytes(4 * PARALLEL_BYTES))
    assert caught.value.errno == errno.ENOSPC
    assert writer.size_bytes == 0


@pytest.mark.parametrize("size", [1, SIDE_BY_SIDE_BYTES // 2], ids=["one by one", "side by side"])
def test_damage_is_reported_for_the_files_that_have_it(size: int, tmp_path: Path) -> None:
    for name in "abc":
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)  # a sparse file takes no room
    files = hash_tree(tmp_path)
    assert find_damage(tmp_path, files, read=True) == []
    with (tmp_path / "b").open("r+b") as file:
        file.seek(size - 1)
        file.write(b"x")
    (tmp_path / "c").unlink()
    told = ["b does not match its recorded checksum", "c is missing"]
    assert find_damage(tmp_path, files, read=True) == told
    assert find_damage(tmp_path, files, read=False) == told[1:]
