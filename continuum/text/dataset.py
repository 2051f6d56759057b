"""Documents into the splits of a tokenized dataset."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from continuum.text.document_log import DocumentCounts, DocumentLog
from continuum.text.encoded import Encoded
from continuum.text.encoding import Encoder, Method, check_ids, portions
from continuum.text.loss_watch import LossWatch
from continuum.text.marks import Marks
from continuum.text.packing import CHUNK_BYTES, SplitWriter, token_dtype
from continuum.text.pieces import Piece
from continuum.text.reading import Document
from continuum.text.splitting import Part, SplitName
from continuum.text_records import Split

BATCH_CHARS = 1 << 22
"""Text encoded at a time: enough for all processors, and for longer than the threads need to take
turns; three batches are in memory."""


@dataclass
class _Side:
    """A split being written."""

    writer: SplitWriter
    num_chars: int = 0
    """Of the documents that have ended."""
    document: DocumentCounts = field(default_factory=DocumentCounts)
    """Of the document that has not."""

    def close(self) -> Split:
        """Write what is left."""
        return self.writer.close().model_copy(update={"num_chars": self.num_chars})


def write_splits(
    parts: Iterable[Part],
    folders: dict[SplitName, Path],
    *,
    method: Method,
    marks: Marks,
    num_ids: int,
    watch: LossWatch | None = None,
    log: DocumentLog | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> dict[SplitName, Split]:
    """Tokenize `parts` and write each split to its folder; empty documents are left out.

    Args:
        log: Told of each document.
        watch: Shown every text with its ids, to find what they do not say of it.
    """
    dtype = token_dtype(num_ids)
    sides = {
        split: _Side(SplitWriter(folder, dtype=dtype, chunk_bytes=chunk_bytes))
        for split, folder in folders.items()
    }
    batches = portions(_pieces(parts, method), lambda piece: len(piece.text), BATCH_CHARS)
    for batch, encoded in _encode_ahead(method.encoder, batches):
        check_ids(encoded, num_ids)
        num_unknown = watch.see(batch, encoded) if watch is not None else [0] * len(batch)
        _append(sides, batch, encoded, marks, num_unknown, log)
    return {split: side.close() for split, side in sides.items()}


def _pieces(parts: Iterable[Part], method: Method) -> Iterator[Piece]:
    document: Document | None = None
    start = 0
    for part in parts:
        if part.document is None or part.document is not document:
            document, start = part.document, 0
        fragments = filter(None, part.fragments)
        texts = method.cutter.cut(fragments) if method.cutter else _whole(fragments)
        text = next(texts, None)
        begins = True
        while text is not None:
            following = next(texts, None)
            yield Piece(part.split, text, begins, following is None, document, start, part.item)
            start += len(text)
            text, begins = following, False


def _whole(fragments: Iterator[str]) -> Iterator[str]:
    if text := "".join(fragments):
        yield text


def _encode_ahead(
    encoder: Encoder, batches: Iterable[list[Piece]]
) -> Iterator[tuple[list[Piece], Encoded]]:
    """Each batch with its ids; while the library encodes, the next is read and the last written."""
    with ThreadPoolExecutor(1) as pool:
        pending: deque[tuple[list[Piece], Future[Encoded]]] = deque()
        for batch in batches:
            pending.append((batch, pool.submit(encoder.encode, [piece.text for piece in batch])))
            if len(pending) > 1:
                first, encoding = pending.popleft()
                yield first, encoding.result()
        for last, encoding in pending:
            yield last, encoding.result()


def _append(
    sides: dict[SplitName, _Side],
    batch: list[Piece],
    encoded: Encoded,
    marks: Marks,
    num_unknown: Sequence[int],
    log: DocumentLog | None,
) -> None:
    ends = np.cumsum(encoded.lengths).tolist()
    lengths = encoded.lengths.tolist()
    for piece, end, length, unknown in zip(batch, ends, lengths, num_unknown, strict=True):
        ids = encoded.ids[end - length : end]
        side = sides[piece.split]
        writer = side.writer
        if piece.begins and marks.bos_id is not None and not _has_at(ids, 0, marks.bos_id):
            writer.append_id(marks.bos_id)
        writer.append(ids)
        side.document = side.document.with_text(piece.text, unknown)
        if piece.ends:
            if marks.eos_id is not None and not _has_at(ids, -1, marks.eos_id):
                writer.append_id(marks.eos_id)
            writer.end_document()
            if log is not None:
                log.add(piece.split, piece.place, side.document, end=writer.num_tokens)
            side.num_chars += side.document.num_chars
            side.document = DocumentCounts()


def _has_at(ids: NDArray[np.uint32], index: int, token_id: int) -> bool:
    # A mark that the text itself bears is not doubled, as in LitGPT's `Tokenizer.encode`.
    return bool(len(ids)) and int(ids[index]) == token_id
