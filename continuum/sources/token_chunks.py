"""Reads a folder of litdata token chunks (the format of `TokensLoader`) from its `index.json`.

Each chunk file is a header of `num_items + 2` 32-bit numbers (the count, then the items' offsets)
and the tokens, end to end. Nothing here needs torch or litdata, so the plan can read it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.errors import IntegrityError, PreflightError
from continuum.runs.text_records import Split

HEADER_NUMBER_BYTES = 4
TENSOR_TYPES = {
    11: "uint8",
    13: "int16",
    14: "int16",
    15: "int32",
    16: "int32",
    17: "int64",
    18: "int64",
    20: "uint16",
}
"""litdata's numbers for torch's integer types (`litdata/constants.py`)."""
ITEM_BYTES = {"uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8}
SCANNED_TOKENS = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """One chunk file, as the index describes it."""

    name: str
    num_items: int
    num_tokens: int


@dataclass(frozen=True)
class ChunkFolder:
    """The chunks of one split."""

    path: Path
    dtype: str
    chunks: tuple[Chunk, ...]

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)

    def split(self) -> Split:
        """The record of the split; an item is one written array, usually a text."""
        return Split(
            num_tokens=self.num_tokens,
            num_documents=sum(chunk.num_items for chunk in self.chunks),
            chunk_tokens=tuple(chunk.num_tokens for chunk in self.chunks),
        )

    def check(self, num_ids: int) -> None:
        """Read every token.

        Raises:
            IntegrityError: a file is missing, or its length differs from the index.
            PreflightError: an id is not below `num_ids`.
        """
        self.check_sizes()
        for chunk in self.chunks:
            self._check_ids(chunk, num_ids)

    def check_sizes(self) -> None:
        """Compare the sizes of the files with the index.

        Raises:
            IntegrityError: a file is missing, or has another size.
        """
        for chunk in self.chunks:
            path = self.path / chunk.name
            size = path.stat().st_size if path.is_file() else None
            expected = self._start(chunk) + chunk.num_tokens * ITEM_BYTES[self.dtype]
            if size != expected:
                there = "not found" if size is None else f"has {size:,} bytes"
                raise IntegrityError(f"{path}: {there}, expected {expected:,}; copy it again")

    def _start(self, chunk: Chunk) -> int:
        """Where the tokens start in its file."""
        return (chunk.num_items + 2) * HEADER_NUMBER_BYTES

    def _check_ids(self, chunk: Chunk, num_ids: int) -> None:
        import numpy as np

        path, item_bytes, start = self.path / chunk.name, ITEM_BYTES[self.dtype], self._start(chunk)
        for first in range(0, chunk.num_tokens, SCANNED_TOKENS):
            offset = start + first * item_bytes
            tokens = np.fromfile(path, dtype=self.dtype, count=SCANNED_TOKENS, offset=offset)
            wrong = np.flatnonzero((tokens >= num_ids) | (tokens < 0))
            if wrong.size:
                raise PreflightError(
                    f"{path}: token {first + wrong[0]:,} is {tokens[wrong[0]]}, but the tokenizer "
                    f"has ids 0 to {num_ids - 1}; name the tokenizer that produced the tokens"
                )


def read_chunk_folder(path: Path) -> ChunkFolder:
    """The chunks that `path/index.json` lists.

    Raises:
        PreflightError: they are not uncompressed tokens in `TokensLoader`'s format.
    """
    index = path / "index.json"
    try:
        document = json.loads(index.read_text(encoding="utf-8"))
        config, listed = document["config"], document["chunks"]
        dtype = _dtype(config, index)
        chunks = tuple(_chunk(entry, index) for entry in listed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PreflightError(f"{index}: not a valid litdata index ({reason})") from error
    if not any(chunk.num_tokens for chunk in chunks):
        raise PreflightError(f"{index}: the chunks contain no tokens")
    return ChunkFolder(path, dtype, chunks)


def _dtype(config: dict[str, Any], index: Path) -> str:
    for name in ("compression", "encryption"):
        if config.get(name):
            raise PreflightError(
                f"{index}: chunks with {name} are not supported; write them without"
            )
    formats = config["data_format"]
    serializer, _, number = str(formats[0]).partition(":")
    dtype = TENSOR_TYPES.get(int(number)) if number.isdecimal() else None
    is_tokens = serializer == "no_header_tensor" and len(formats) == 1
    if dtype is None or not is_tokens or config.get("item_loader") not in {None, "TokensLoader"}:
        raise PreflightError(
            f"{index}: unsupported data format {formats}; write integer tensors with "
            "litdata.optimize(…, item_loader=TokensLoader())"
        )
    return dtype


def _chunk(entry: dict[str, Any], index: Path) -> Chunk:
    name, num_items, num_tokens = entry["filename"], entry["chunk_size"], entry["dim"]
    if not isinstance(num_tokens, int) or not isinstance(num_items, int):
        raise PreflightError(
            f"{index}: chunk {name} has no token count; write it with "
            "litdata.optimize(…, item_loader=TokensLoader())"
        )
    if Path(name).name != name:
        raise PreflightError(f"{index}: chunk name {name!r} must be a plain file name")
    return Chunk(name, num_items, num_tokens)
