"""The documents of a dataset: where each ends in the tokens, its source, and its digest.

A dataset lists them in its folder `documents`, which is never loaded completely. `train.index` and
`validation.index` hold the end of each document's tokens, in order. `train.rows`, in sorted slices,
is searched for the digests of `validation.rows`, within one dataset or between two. The files
contain no names, so that renaming a source does not change them; a text is identified by its
position in the corpora. A divided document is on both sides intentionally; the search looks for the
part that validates, and for the undivided document.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from continuum.errors import IntegrityError
from continuum.runs.artifacts import DOCUMENTS, CorpusItem
from continuum.runs.text_records import LeakedDocument, Overlap, SourceCounts, Split
from continuum.text.chunks import SplitName, TextChunk
from continuum.text.reading import Document

_PLACE = [("item", "<u4"), ("position", "<u4")]
TRAIN = np.dtype([("key", "<u8"), *_PLACE])
"""The first eight bytes of a document's SHA-256, and its place."""
VALIDATION = np.dtype([("key", "<u8"), ("whole", "<u8"), *_PLACE])
"""The same, and the digest of the undivided document."""
INDEX = np.dtype([("end", "<u8"), *_PLACE])
"""Tokens of the split up to the end of the document, with special tokens, and its place."""
SLICE = 1 << 20
"""Rows of a sorted slice, and in memory at a time."""
NUM_EXAMPLES = 5


@dataclass
class _Counts:
    num_documents: int = 0
    num_chars: int = 0
    size_bytes: int = 0
    num_tokens: int = 0
    num_unknown: int = 0


@dataclass
class _Current:
    """The document that is being written, or one side of it."""

    document: Document
    own: Any = field(default_factory=hashlib.sha256)
    whole: Any = None
    """For a side after the first, the hash of all sides."""
    counts: _Counts = field(default_factory=lambda: _Counts(num_documents=1))


class DocumentLog:
    """Records the documents of each split as they are written, with totals by source."""

    def __init__(
        self,
        dataset_folder: Path,
        splits: Iterable[SplitName],
        items: Sequence[CorpusItem],
        slice_rows: int = SLICE,
    ) -> None:
        """Open the files.

        Args:
            items: The items of all corpora, in order.
        """
        self._items = items
        self._numbers = {id(item): number for number, item in enumerate(items)}
        self._slice_bytes = slice_rows * TRAIN.itemsize
        self._slice = bytearray()
        self._counts: dict[tuple[int, SplitName], _Counts] = {}
        self._ends: dict[SplitName, int] = {}
        self._current: _Current | None = None
        folder = dataset_folder / DOCUMENTS
        folder.mkdir(parents=True)
        names = ["train.rows", "validation.rows", *(f"{split}.index" for split in splits)]
        with ExitStack() as stack:
            self._files: dict[str, IO[bytes]] = {
                name: stack.enter_context((folder / name).open("wb")) for name in names
            }
            self._closing = stack.pop_all()

    def __enter__(self) -> "DocumentLog":
        return self

    def __exit__(self, *_: object) -> None:
        with self._closing:
            self._flush()

    def add(self, chunk: TextChunk, num_unknown: int = 0) -> None:
        """Count a chunk of the current document, or of a new one if it begins one."""
        if chunk.begins:
            assert chunk.document is not None, "every document of a corpus is known"
            is_rest = self._current is not None and self._current.document is chunk.document
            whole = self._current.own if self._current is not None and is_rest else None
            self._current = _Current(chunk.document, whole=whole)
        assert self._current is not None, "a document starts with a chunk that begins"
        data = chunk.text.encode()
        self._current.own.update(data)
        if self._current.whole is not None:
            self._current.whole.update(data)
        counts = self._current.counts
        counts.num_chars += len(chunk.text)
        counts.size_bytes += len(data)
        counts.num_unknown += num_unknown

    def end_document(self, split: SplitName, end: int) -> None:
        """Record the document that was written.

        Args:
            end: Number of tokens in the split up to its end.
        """
        assert self._current is not None, "a document starts before it ends"
        current, counts = self._current, self._current.counts
        place = self._numbers[id(current.document.item)], current.document.position
        own, whole = (
            int.from_bytes(hasher.digest()[:8], "little")
            for hasher in (current.own, current.whole or current.own)
        )
        if split == "train":
            self._slice += struct.pack("<QII", own, *place)
            if len(self._slice) == self._slice_bytes:
                self._flush()
        else:
            self._files["validation.rows"].write(struct.pack("<QQII", own, whole, *place))
        self._files[f"{split}.index"].write(struct.pack("<QII", end, *place))
        counts.num_tokens = end - self._ends.get(split, 0)
        self._ends[split] = end
        total = self._counts.setdefault((place[0], split), _Counts())
        for name, number in vars(counts).items():
            setattr(total, name, getattr(total, name) + number)

    def num_chars(self, split: SplitName) -> int:
        """Number of characters in a split's documents."""
        return sum(it.num_chars for (_, of), it in self._counts.items() if of == split)

    def sources(self) -> tuple[SourceCounts, ...]:
        """The counts, in the order of the corpora."""
        return tuple(
            SourceCounts(source=self._items[number].source, split=split, **vars(counts))
            for (number, split), counts in sorted(self._counts.items())
        )

    def _flush(self) -> None:
        rows = np.frombuffer(bytes(self._slice), dtype=TRAIN)
        rows = rows[np.argsort(rows["key"], kind="stable")]
        self._files["train.rows"].write(rows.tobytes())
        self._slice.clear()


def read_index(dataset_folder: Path, split_name: str, split: Split) -> NDArray[Any] | None:
    """The memory-mapped index; None for imported datasets and those of earlier releases.

    Raises:
        IntegrityError: it does not match the split.
    """
    path = dataset_folder / DOCUMENTS / f"{split_name}.index"
    if not path.is_file():
        return None
    size, expected = path.stat().st_size, split.num_documents * INDEX.itemsize
    if size != expected:
        raise IntegrityError(
            f"{path} has {size:,} bytes, expected {expected:,} for {split.num_documents:,} "
            "documents; run the stage again"
        )
    return np.memmap(path, dtype=INDEX, mode="r") if size else np.empty(0, dtype=INDEX)


@dataclass(frozen=True)
class Listed:
    """The list of documents of a dataset, and their sources."""

    folder: Path
    texts: Sequence[CorpusItem]
    """The items of all corpora, training before validation; empty if they are unknown."""
    slice_rows: int = SLICE

    def place(self, row: Any) -> str:
        """Describe where a row's document comes from."""
        number, position = int(row["item"]), int(row["position"])
        if number >= len(self.texts):
            return f"document {position + 1:,} of text {number + 1:,}"
        text = self.texts[number]
        return text.source + (f", document {position + 1:,}" if text.format == "jsonl" else "")

    def slices(self, split: str) -> Iterator[NDArray[Any]]:
        """The rows of a split, slice by slice."""
        dtype = TRAIN if split == "train" else VALIDATION
        with (self.folder / f"{split}.rows").open("rb") as file:
            while raw := file.read(self.slice_rows * dtype.itemsize):
                yield np.frombuffer(raw, dtype=dtype)


def find_overlap(training: Listed, validation: Listed) -> Overlap:
    """Find documents that validate in one list and train in the other, which may be the same."""
    count = 0
    examples: list[LeakedDocument] = []
    for rows in validation.slices("validation"):
        is_leaked = np.zeros(len(rows), dtype=bool)
        found = np.zeros(len(rows), dtype=TRAIN)
        for trained in training.slices("train"):
            keys = np.ascontiguousarray(trained["key"])
            for key in ("key", "whole"):
                at = np.minimum(np.searchsorted(keys, rows[key]), len(keys) - 1)
                is_new = (keys[at] == rows[key]) & ~is_leaked
                found[is_new] = trained[at[is_new]]
                is_leaked |= is_new
        for number in np.flatnonzero(is_leaked)[: NUM_EXAMPLES - len(examples)]:
            places = validation.place(rows[number]), training.place(found[number])
            examples.append(LeakedDocument(validation=places[0], training=places[1]))
        count += int(is_leaked.sum())
    return Overlap(num_documents=count, examples=tuple(examples))


def count_repeats(listed: Listed, split: str) -> int:
    """Count the documents of a split that duplicate an earlier one."""
    num_rows = sum(map(len, listed.slices(split)))
    # Keys are evenly distributed, so each part has about the size of a slice.
    num_parts = max(1, -(-num_rows // listed.slice_rows))
    num_texts = 0
    for number in range(num_parts):
        found = [np.empty(0, dtype=np.uint64)]
        for rows in listed.slices(split):
            found.append(rows["key"][rows["key"] % np.uint64(num_parts) == number])
        num_texts += len(np.unique(np.concatenate(found)))
    return num_rows - num_texts
