"""Writes the splits of a tokenized dataset, in litdata chunks that LitGPT's `LitData` can read.

A split is one stream of tokens without padding; readers cut it into blocks, and a block never spans
two chunks. So chunks are large: at most one block is lost per chunk. Each holds exactly as many
tokens as fit, wherever documents end, so that the files depend on the tokens alone.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from litdata.streaming.cache import Cache
from litdata.streaming.item_loader import TokensLoader
from litdata.utilities.env import _DistributedEnv
from numpy.typing import NDArray

from continuum.errors import StageFailedError
from continuum.runs.files import write_json
from continuum.runs.text_records import Split
from continuum.text.chunks import SplitName, TextChunk
from continuum.text.documents import DocumentLog
from continuum.text.encoding import Encoded, Encoder, Method, check_ids, portions
from continuum.text.loss_watch import LossWatch
from continuum.text.special_tokens import DocumentTokens
from continuum.text.splits import Part

CHUNK_BYTES = 1 << 26
"""litdata's default size. Writing a chunk takes about four times as much memory."""
BATCH_CHARS = 1 << 22
"""Text encoded at a time: enough to keep all processors busy; three batches are in memory."""


def token_dtype(num_ids: int) -> str:
    """The smallest type that litdata and torch can read: `uint16`, or `int32`."""
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
        """Write the remaining tokens and the index."""
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
            # With `chunk_size=1`, every array becomes a chunk.
            self._cache = Cache(str(self._folder), chunk_size=1, item_loader=TokensLoader())
            # In a process group, litdata would wait for the chunks of the other processes.
            self._cache._writer._distributed_env = _DistributedEnv(1, 0, 1)
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
                f"{self._chunk_tokens}; its version is not supported"
            )
        # litdata writes the time here, to detect stale caches. The hash of the tokens does that
        # too, and makes the file reproducible.
        index["updated_at"] = self._hash.hexdigest()[:32]
        write_json(path, index)


def _refuse_foreign_settings() -> None:
    # Set by litdata in its own workers; the writer would mistake this process for one.
    if "DATA_OPTIMIZER_GLOBAL_RANK" in os.environ:
        raise StageFailedError(
            "DATA_OPTIMIZER_GLOBAL_RANK is set, as in a litdata worker; unset it and run again"
        )


def write_splits(
    parts: Iterable[Part],
    folders: dict[SplitName, Path],
    *,
    method: Method,
    special: DocumentTokens,
    num_ids: int,
    watch: LossWatch,
    log: DocumentLog,
    chunk_bytes: int = CHUNK_BYTES,
) -> dict[SplitName, Split]:
    """Tokenize `parts` and write each split to its folder; empty documents are skipped.

    Args:
        watch: Receives every text with its ids, to find losses.
        log: Records each document.
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
            _append(writers[chunk.split], chunk, ids, special, log)
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
    """Encode batches; meanwhile the next is read and the last is written."""
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
    writer: SplitWriter,
    chunk: TextChunk,
    ids: NDArray[np.uint32],
    special: DocumentTokens,
    log: DocumentLog,
) -> None:
    # A special token that is in the text is not repeated, as in LitGPT's `Tokenizer.encode`.
    if chunk.begins and special.bos_id is not None and special.bos_id not in ids[:1]:
        writer.append_id(special.bos_id)
    writer.append(ids)
    if chunk.ends:
        if special.eos_id is not None and special.eos_id not in ids[-1:]:
            writer.append_id(special.eos_id)
        writer.end_document()
        log.end_document(chunk.split, writer.num_tokens)
