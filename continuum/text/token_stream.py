"""Reading tokens of a split back, from any place."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.sources.token_chunks import HEADER_NUMBER_BYTES, read_chunk_folder
from continuum.text_records import Split


class TokenStream:
    """The tokens of a split, chunk after chunk; only what is asked for is read."""

    def __init__(self, folder: Path, split: Split, dtype: str) -> None:
        """Read the index of the chunks.

        Raises:
            PreflightError: it is damaged.
        """
        self._folder = folder
        self._chunks = read_chunk_folder(folder).chunks if split.num_tokens else ()
        self._ends = np.cumsum(np.array(split.chunk_tokens, dtype=np.int64))
        self._dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, end: int) -> NDArray[Any]:
        """The ids of tokens `start` to `end`, without `end`; 1-D, of the dataset's dtype."""
        parts = [np.empty(0, dtype=self._dtype)]
        number = int(np.searchsorted(self._ends, start, side="right"))
        while start < end and number < len(self._chunks):
            chunk = self._chunks[number]
            begin = int(self._ends[number]) - chunk.num_tokens
            count = min(end, int(self._ends[number])) - start
            header = (chunk.num_items + 2) * HEADER_NUMBER_BYTES
            with (self._folder / chunk.name).open("rb") as file:
                file.seek(header + (start - begin) * self._dtype.itemsize)
                parts.append(np.fromfile(file, dtype=self._dtype, count=count))
            start += count
            number += 1
        return np.concatenate(parts)
