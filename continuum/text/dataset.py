"""Documents into the splits of a tokenized dataset."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from continuum.artifacts import Split
from continuum.text.document_log import DocumentLog
from continuum.text.encoding import Encoded, Encoder, Method, check_ids, portions
from continuum.text.marks import Marks
from continuum.text.packing import CHUNK_BYTES, SplitWriter, token_dtype
from continuum.text.splitting import Part, SplitName

BATCH_CHARS = 1 << 22
"""Text encoded at a time: enough for all processors, and for longer than the threads need to take
turns; three batches are in memory."""


@dataclass
class _Side:
    """A split being written."""

    writer: SplitWriter
    num_chars: int = 0
    """Of the documents that have ended."""
    document_chars: int = 0
    document_bytes: int = 0
    """Of the document that has not, as UTF-8."""

    def close(self) -> Split:
        """Write what is left."""
        return self.writer.close().model_copy(update={"num_chars": self.num_chars})


@dataclass(frozen=True)
class _Piece:
    part: Part
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
    log: DocumentLog | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> dict[SplitName, Split]:
    """Tokenize `parts` and write each split to its folder; empty documents are left out.

    Args:
        log: Takes down each document.
    """
    dtype = token_dtype(num_ids)
    sides = {
        split: _Side(SplitWriter(folder, dtype=dtype, chunk_bytes=chunk_bytes))
        for split, folder in folders.items()
    }
    batches = portions(_pieces(parts, method), lambda piece: len(piece.text), BATCH_CHARS)
    for batch, encoded in _encode_ahead(method.encoder, batches):
        check_ids(encoded, num_ids)
        _append(sides, batch, encoded, marks, log)
    if log is not None:
        log.flush()
    return {split: side.close() for split, side in sides.items()}


def _pieces(parts: Iterable[Part], method: Method) -> Iterator[_Piece]:
    for part in parts:
        fragments = filter(None, part.fragments)
        texts = method.cutter.cut(fragments) if method.cutter else _whole(fragments)
        text = next(texts, None)
        begins = True
        while text is not None:
            following = next(texts, None)
            yield _Piece(part, text, begins, ends=following is None)
            text, begins = following, False


def _whole(fragments: Iterator[str]) -> Iterator[str]:
    if text := "".join(fragments):
        yield text


def _encode_ahead(
    encoder: Encoder, batches: Iterable[list[_Piece]]
) -> Iterator[tuple[list[_Piece], Encoded]]:
    """Each batch with its ids; while the library encodes, the next is read and the last written."""
    with ThreadPoolExecutor(1) as pool:
        pending: deque[tuple[list[_Piece], Future[Encoded]]] = deque()
        for batch in batches:
            pending.append((batch, pool.submit(encoder.encode, [piece.text for piece in batch])))
            if len(pending) > 1:
                first, encoding = pending.popleft()
                yield first, encoding.result()
        for last, encoding in pending:
            yield last, encoding.result()


def _append(
    sides: dict[SplitName, _Side],
    batch: list[_Piece],
    encoded: Encoded,
    marks: Marks,
    log: DocumentLog | None,
) -> None:
    ends = np.cumsum(encoded.lengths)
    for piece, end, length in zip(batch, ends.tolist(), encoded.lengths.tolist(), strict=True):
        ids = encoded.ids[end - length : end]
        side = sides[piece.part.split]
        writer = side.writer
        if piece.begins and marks.bos_id is not None and not _has_at(ids, 0, marks.bos_id):
            writer.append_id(marks.bos_id)
        writer.append(ids)
        side.document_chars += len(piece.text)
        is_ascii = piece.text.isascii()
        side.document_bytes += len(piece.text) if is_ascii else len(piece.text.encode())
        if piece.ends:
            if marks.eos_id is not None and not _has_at(ids, -1, marks.eos_id):
                writer.append_id(marks.eos_id)
            _end_document(side, piece.part, log)


def _end_document(side: _Side, part: Part, log: DocumentLog | None) -> None:
    side.writer.end_document()
    if log is not None:
        log.add(
            part.split,
            part.place,
            end=side.writer.num_tokens,
            num_chars=side.document_chars,
            size_bytes=side.document_bytes,
        )
    side.num_chars += side.document_chars
    side.document_chars = side.document_bytes = 0


def _has_at(ids: NDArray[np.uint32], index: int, token_id: int) -> bool:
    # A mark that the text itself bears is not doubled, as in LitGPT's `Tokenizer.encode`.
    return bool(len(ids)) and int(ids[index]) == token_id
