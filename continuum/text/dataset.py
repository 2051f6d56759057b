"""Documents into the splits of a tokenized dataset."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from continuum.runs.text_records import Split
from continuum.text.chunks import SplitName, TextChunk
from continuum.text.documents import DocumentLog
from continuum.text.encoding import Encoded, Encoder, Method, check_ids, portions
from continuum.text.loss_watch import LossWatch
from continuum.text.marks import Marks
from continuum.text.packing import CHUNK_BYTES, SplitWriter, token_dtype
from continuum.text.splits import Part

BATCH_CHARS = 1 << 22
"""Text encoded at a time: enough for all processors, and for longer than the threads need to take
turns; three batches are in memory."""


def write_splits(
    parts: Iterable[Part],
    folders: dict[SplitName, Path],
    *,
    method: Method,
    marks: Marks,
    num_ids: int,
    watch: LossWatch,
    log: DocumentLog,
    chunk_bytes: int = CHUNK_BYTES,
) -> dict[SplitName, Split]:
    """Tokenize `parts` and write each split to its folder; empty documents are left out.

    Args:
        log: Told of each document.
        watch: Shown every text with its ids, to find what they do not say of it.
    """
    dtype = token_dtype(num_ids)
    writers = {
        split: SplitWriter(folder, dtype=dtype, chunk_bytes=chunk_bytes)
        for split, folder in folders.items()
    }
    batches = portions(_chunks(parts, method), lambda chunk: len(chunk.text), BATCH_CHARS)
    for batch, encoded in _encode_ahead(method.encoder, batches):
        check_ids(encoded, num_ids)
        rows = zip(batch, encoded.split(), watch.see(batch, encoded), strict=True)
        for chunk, ids, num_unknown in rows:
            log.add(chunk, num_unknown)
            _append(writers[chunk.split], chunk, ids, marks, log)
    return {
        split: writer.close().model_copy(update={"num_chars": log.num_chars(split)})
        for split, writer in writers.items()
    }


def _chunks(parts: Iterable[Part], method: Method) -> Iterator[TextChunk]:
    document = None
    start = 0
    for part in parts:
        if part.document is not document:
            document, start = part.document, 0
        fragments = filter(None, part.fragments)
        texts = method.chunker.cut(fragments) if method.chunker else _whole(fragments)
        text = next(texts, None)
        begins = True
        while text is not None:
            following = next(texts, None)
            yield TextChunk(text, document, start, begins, following is None, part.split)
            start += len(text)
            text, begins = following, False


def _whole(fragments: Iterator[str]) -> Iterator[str]:
    if text := "".join(fragments):
        yield text


def _encode_ahead(
    encoder: Encoder, batches: Iterable[list[TextChunk]]
) -> Iterator[tuple[list[TextChunk], Encoded]]:
    """Each batch with its ids; while the library encodes, the next is read and the last written."""
    with ThreadPoolExecutor(1) as pool:
        pending: deque[tuple[list[TextChunk], Future[Encoded]]] = deque()
        for batch in batches:
            pending.append((batch, pool.submit(encoder.encode, [chunk.text for chunk in batch])))
            if len(pending) > 1:
                first, encoding = pending.popleft()
                yield first, encoding.result()
        for last, encoding in pending:
            yield last, encoding.result()


def _append(
    writer: SplitWriter, chunk: TextChunk, ids: NDArray[np.uint32], marks: Marks, log: DocumentLog
) -> None:
    # A mark that the text itself bears is not doubled, as in LitGPT's `Tokenizer.encode`.
    if chunk.begins and marks.bos_id is not None and marks.bos_id not in ids[:1]:
        writer.append_id(marks.bos_id)
    writer.append(ids)
    if chunk.ends:
        if marks.eos_id is not None and marks.eos_id not in ids[-1:]:
            writer.append_id(marks.eos_id)
        writer.end_document()
        log.end_document(chunk.split, writer.num_tokens)
