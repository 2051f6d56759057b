"""Token ids into litdata chunks that LitGPT's `LitData` reads with a `TokensLoader`.

A split is one stream of tokens without padding; readers cut it into blocks, and a block never spans
two chunks. So chunks are large: at most one block is lost per chunk. Each holds exactly as many
tokens as fit, wherever documents end, which makes the files depend on the tokens alone.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from litdata.streaming.cache import Cache
from litdata.streaming.item_loader import TokensLoader
from numpy.typing import NDArray

from continuum.errors import StageFailedError
from continuum.runs.files import write_json
from continuum.runs.text_records import Split

CHUNK_BYTES = 1 << 26
"""litdata's usual size. Writing one takes about four times as much memory."""


def token_dtype(num_ids: int) -> str:
    """The smallest type that litdata and torch read back: `uint16`, or `int32`."""
    return "uint16" if num_ids <= 1 << 16 else "int32"


class SplitWriter:
    """Writes the tokens of one split into a folder; nothing is written for an empty split."""

    def __init__(self, folder: Path, *, dtype: str, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._folder = folder
        self._buffer: NDArray[np.generic] = np.empty(
            chunk_bytes // np.dtype(dtype).itemsize, dtype=dtype
        )
        self._num_buffered = 0
        self._chunk_tokens: list[int] = []
        self._num_documents = 0
        self.num_tokens = 0
        """Tokens added so far."""
        self._hash = hashlib.sha256()
        self._cache: Cache | None = None

    def append(self, ids: NDArray[np.generic]) -> None:
        """Add tokens at the end."""
        self.num_tokens += len(ids)
        start = 0
        while start < len(ids):
            number = min(len(ids) - start, len(self._buffer) - self._num_buffered)
            end = self._num_buffered + number
            self._buffer[self._num_buffered : end] = ids[start : start + number]
            self._num_buffered = end
            start += number
            if end == len(self._buffer):
                self._write_chunk()

    def append_id(self, token_id: int) -> None:
        """Add one token at the end."""
        self.append(np.array([token_id], dtype=self._buffer.dtype))

    def end_document(self) -> None:
        """Count a document."""
        self._num_documents += 1

    def close(self) -> Split:
        """Write what is left, and the index."""
        if self._num_buffered:
            self._write_chunk()
        if self._cache is not None:
            self._cache.done()
            self._cache.merge()
            self._finish_index()
        return Split(
            num_tokens=sum(self._chunk_tokens),
            num_documents=self._num_documents,
            chunk_tokens=tuple(self._chunk_tokens),
        )

    def _write_chunk(self) -> None:
        if self._cache is None:
            _refuse_foreign_settings()
            # `chunk_size=1` makes every array we hand over a chunk of its own.
            self._cache = Cache(str(self._folder), chunk_size=1, item_loader=TokensLoader())
        tokens = self._buffer[: self._num_buffered]
        self._hash.update(tokens.data)
        self._cache[len(self._chunk_tokens)] = torch.from_numpy(tokens)
        self._chunk_tokens.append(self._num_buffered)
        self._num_buffered = 0

    def _finish_index(self) -> None:
        path = self._folder / "index.json"
        index = json.loads(path.read_text(encoding="utf-8"))
        written = [chunk["dim"] for chunk in index["chunks"]]
        if written != self._chunk_tokens:
            raise StageFailedError(
                f"{path}: litdata wrote chunks of {written} tokens instead of "
                f"{self._chunk_tokens}; its version is not one that continuum was tested with"
            )
        # litdata writes the time here, and uses it to tell whether a cached copy is current. The
        # hash of the tokens serves that end, and the same tokens make the same file.
        index["updated_at"] = self._hash.hexdigest()[:32]
        write_json(path, index)


def _refuse_foreign_settings() -> None:
    # Set by litdata around its own workers; the writer would take this process for one of them.
    if "DATA_OPTIMIZER_GLOBAL_RANK" in os.environ:
        raise StageFailedError(
            "DATA_OPTIMIZER_GLOBAL_RANK is set, as inside a litdata worker; unset it and run again"
        )
