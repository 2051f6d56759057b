"""Documents into the splits of a tokenized dataset."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from continuum.artifacts import Split
from continuum.text.encoding import Encoded, Method, check_ids
from continuum.text.marks import Marks
from continuum.text.packing import CHUNK_BYTES, SplitWriter, token_dtype
from continuum.text.splitting import Part, SplitName

BATCH_CHARS = 1 << 20
"""Text encoded at a time: enough for all processors, little enough for `tokenizers`' memory."""


@dataclass(frozen=True)
class _Piece:
    split: SplitName
    text: str
    begins: bool
    ends: bool


def write_splits(
    parts: Iterable[Part],
    folders: dict[SplitName, Path],
    *,
    method: Method,
    marks: Marks,
    num_ids: int,
    chunk_bytes: int = CHUNK_BYTES,
) -> dict[SplitName, Split]:
    """Tokenize `parts` and write each split to its folder; empty documents are left out."""
    dtype = token_dtype(num_ids)
    writers = {
        split: SplitWriter(folder, dtype=dtype, chunk_bytes=chunk_bytes)
        for split, folder in folders.items()
    }
    for batch in _batches(_pieces(parts, method)):
        encoded = method.encoder.encode([piece.text for piece in batch])
        check_ids(encoded, num_ids)
        _append(writers, batch, encoded, marks)
    return {split: writer.close() for split, writer in writers.items()}


def _pieces(parts: Iterable[Part], method: Method) -> Iterator[_Piece]:
    for part in parts:
        fragments = filter(None, part.fragments)
        texts = method.cutter.cut(fragments) if method.cutter else _whole(fragments)
        text = next(texts, None)
        begins = True
        while text is not None:
            following = next(texts, None)
            yield _Piece(part.split, text, begins, ends=following is None)
            text, begins = following, False


def _whole(fragments: Iterator[str]) -> Iterator[str]:
    if text := "".join(fragments):
        yield text


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    num_chars = 0
    for piece in pieces:
        batch.append(piece)
        num_chars += len(piece.text)
        if num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _append(
    writers: dict[SplitName, SplitWriter], batch: list[_Piece], encoded: Encoded, marks: Marks
) -> None:
    ends = np.cumsum(encoded.lengths)
    for piece, end, length in zip(batch, ends.tolist(), encoded.lengths.tolist(), strict=True):
        ids = encoded.ids[end - length : end]
        writer = writers[piece.split]
        if piece.begins and marks.bos_id is not None and not _has_at(ids, 0, marks.bos_id):
            writer.append_id(marks.bos_id)
        writer.append(ids)
        if piece.ends:
            if marks.eos_id is not None and not _has_at(ids, -1, marks.eos_id):
                writer.append_id(marks.eos_id)
            writer.end_document()


def _has_at(ids: NDArray[np.uint32], index: int, token_id: int) -> bool:
    # A mark that the text itself bears is not doubled, as in LitGPT's `Tokenizer.encode`.
    return bool(len(ids)) and int(ids[index]) == token_id
