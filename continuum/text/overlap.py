"""Documents that validate and train, found by their digests, in one dataset or between two.

A dataset lists the digests of its documents in its folder `documents`, written in slices, so that
memory holds one of them, however many documents there are: `train.rows`, each slice sorted, is
searched for the rows of `validation.rows`. No name is in them, so what is read under another name
makes the same bytes; a text is told by its place among those of the corpora. A divided document is
on both sides by intent; what is looked for among the training documents is the part of it that
validates, and the whole of it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from continuum.artifacts import CorpusItem
from continuum.text.reading import Document
from continuum.text.splitting import Part
from continuum.text_records import LeakedDocument, Overlap

TRAIN = np.dtype([("key", "<u8"), ("item", "<u4"), ("position", "<u4")])
"""The first eight bytes of a document's SHA-256, and where it is."""
VALIDATION = np.dtype([("key", "<u8"), ("whole", "<u8"), ("item", "<u4"), ("position", "<u4")])
"""The same, with the digest of the whole of a divided document."""
SLICE = 1 << 20
"""Rows of a sorted slice, and in memory at a time."""
NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Listed:
    """A list of documents, and what they are in."""

    folder: Path
    texts: Sequence[CorpusItem]
    """All of the corpora, those that train before those that validate; none where that is not
    known any more."""
    slice_rows: int = SLICE

    def place(self, row: Any) -> str:
        """Where a row's document is, for people."""
        number, position = int(row["item"]), int(row["position"])
        if number >= len(self.texts):
            return f"document {position + 1:,} of text {number + 1:,}"
        text = self.texts[number]
        return text.source + (f", document {position + 1:,}" if text.format == "jsonl" else "")

    def slices(self, split: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """The rows of a side, some at a time."""
        with (self.folder / f"{split}.rows").open("rb") as file:
            while raw := file.read(self.slice_rows * dtype.itemsize):
                yield np.frombuffer(raw, dtype=dtype)


class DocumentList:
    """Notes the documents that pass."""

    def __init__(self, listed: Listed) -> None:
        """The list is written to its folder, which is made."""
        listed.folder.mkdir(parents=True)
        self._numbers = {id(text): number for number, text in enumerate(listed.texts)}
        self._files: dict[str, _Rows] = {}
        with ExitStack() as stack:
            for split, dtype in (("train", TRAIN), ("validation", VALIDATION)):
                file = stack.enter_context((listed.folder / f"{split}.rows").open("wb"))
                self._files[split] = _Rows(file, dtype, listed.slice_rows)
            self._closing = stack.pop_all()

    def __enter__(self) -> "DocumentList":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def watch(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The same parts; each must be read to its end before the next is asked for."""
        beginning: tuple[Document, Any] | None = None
        for part in parts:
            assert part.document is not None, "documents of a corpus are told apart"
            own = hashlib.sha256()
            whole = own
            if beginning is not None and beginning[0] is part.document:
                whole = beginning[1]
            is_empty = True
            hashers = (own,) if whole is own else (own, whole)

            def hashed(fragments: Iterator[str], hashers: Any = hashers) -> Iterator[str]:
                nonlocal is_empty
                for fragment in fragments:
                    is_empty = is_empty and not fragment
                    text = fragment.encode()
                    for hasher in hashers:
                        hasher.update(text)
                    yield fragment

            item = self._numbers[id(part.document.item)]
            watched = replace(part, fragments=hashed(part.fragments), item=item)
            yield watched
            if not is_empty:
                self._note(part.split, watched.place, own.digest(), whole.digest())
            beginning = (part.document, own)
        for rows in self._files.values():
            rows.flush()

    def _note(self, split: str, place: tuple[int, int], own: bytes, whole: bytes) -> None:
        keys = [int.from_bytes(digest[:8], "little") for digest in (own, whole)]
        self._files[split].add(*(keys[:1] if split == "train" else keys), *place)


@dataclass
class _Rows:
    """Rows on their way to a file: those that train in sorted slices, others in their order."""

    file: IO[bytes]
    dtype: np.dtype[Any]
    slice_rows: int
    waiting: bytearray = field(default_factory=bytearray)

    def add(self, *values: int) -> None:
        self.waiting += struct.pack("<QII" if self.dtype is TRAIN else "<QQII", *values)
        if len(self.waiting) == self.slice_rows * self.dtype.itemsize:
            self.flush()

    def flush(self) -> None:
        rows = np.frombuffer(bytes(self.waiting), dtype=self.dtype)
        if self.dtype is TRAIN:
            rows = rows[np.argsort(rows["key"], kind="stable")]
        self.file.write(rows.tobytes())
        self.file.flush()
        self.waiting.clear()


def find_overlap(training: Listed, validation: Listed) -> Overlap:
    """The documents that validate in one list and train in the other, which may be the same."""
    count = 0
    examples: list[LeakedDocument] = []
    for rows in validation.slices("validation", VALIDATION):
        is_leaked = np.zeros(len(rows), dtype=bool)
        found = np.zeros(len(rows), dtype=TRAIN)
        for trained in training.slices("train", TRAIN):
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
    """The documents of a split whose text an earlier one has, word for word."""
    dtype = TRAIN if split == "train" else VALIDATION
    num_rows = (listed.folder / f"{split}.rows").stat().st_size // dtype.itemsize
    # Keys are evenly spread, so each of these parts is about a slice.
    num_parts = max(1, -(-num_rows // listed.slice_rows))
    num_texts = 0
    for number in range(num_parts):
        found = [np.empty(0, dtype=np.uint64)]
        for rows in listed.slices(split, dtype):
            found.append(rows["key"][rows["key"] % np.uint64(num_parts) == number])
        num_texts += len(np.unique(np.concatenate(found)))
    return num_rows - num_texts
