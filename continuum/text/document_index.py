"""The index of a split's documents: where each ends in the token stream, and its source.

A dataset keeps it in `documents/train.index` and `documents/validation.index`, in token order. A
source is given by its number among the items of the corpora, as in `continuum.text.overlap`: the
bytes do not depend on file names.
"""

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from continuum.artifacts import DOCUMENTS
from continuum.errors import IntegrityError
from continuum.text_records import Split

ROW = np.dtype([("end", "<u8"), ("item", "<u4"), ("position", "<u4")])
"""Tokens of the split up to the end of the document, special tokens included; the number of its
item and its position in that item, both from 0."""
ROWS_BUFFERED = 1 << 14


class DocumentIndexWriter:
    """Writes the index of one split."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer: list[tuple[int, int, int]] = []

    def append(self, end: int, item: int, position: int) -> None:
        """Add the next document."""
        self._buffer.append((end, item, position))
        if len(self._buffer) == ROWS_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows."""
        self._file.write(np.array(self._buffer, dtype=ROW).tobytes())
        self._buffer.clear()


def index_path(dataset_folder: Path, split_name: str) -> Path:
    """The index file of a split."""
    return dataset_folder / DOCUMENTS / f"{split_name}.index"


def read_index(dataset_folder: Path, split_name: str, split: Split) -> NDArray[Any] | None:
    """The index, memory-mapped; None for imported datasets and those of earlier releases.

    Raises:
        IntegrityError: it does not match the split.
    """
    path = index_path(dataset_folder, split_name)
    if not path.is_file():
        return None
    size, expected = path.stat().st_size, split.num_documents * ROW.itemsize
    if size != expected:
        raise IntegrityError(
            f"{path} has {size:,} bytes, expected {expected:,} for {split.num_documents:,} "
            "documents; run the stage again"
        )
    return np.memmap(path, dtype=ROW, mode="r") if size else np.empty(0, dtype=ROW)
