"""Documents that are in both splits of a dataset, found by their digests while it is written.

The digests go to files without a name, so memory holds a slice of them, however many there are,
and a killed run leaves nothing. A divided document is on both sides by intent; what is looked for
among the training documents is the part of it that validates, and the whole of it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from continuum.artifacts import CorpusItem, LeakedDocument, Overlap
from continuum.text.reading import Document
from continuum.text.splitting import Part

ROW = struct.Struct("<QQII")
ROWS = np.dtype([("key", "<u8"), ("whole", "<u8"), ("item", "<u4"), ("position", "<u4")])
"""A document's digest, that of the whole of a divided one, and where it is."""
SLICE = 1 << 22
"""Rows in memory at a time, of each split."""
NUM_EXAMPLES = 5


class OverlapFinder:
    """Notes the documents that pass, and says afterwards which are on both sides."""

    def __init__(self, folder: Path) -> None:
        """The notes are kept on the disk of `folder`, which must be there."""
        self._items: list[CorpusItem] = []
        with ExitStack() as stack:
            self._files: dict[str, IO[bytes]] = {
                split: stack.enter_context(TemporaryFile(dir=folder))
                for split in ("train", "validation")
            }
            self._closing = stack.pop_all()

    def __enter__(self) -> "OverlapFinder":
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

            yield replace(part, fragments=hashed(part.fragments))
            if not is_empty:
                self._note(part.split, part.document, own.digest(), whole.digest())
            beginning = (part.document, own)

    def result(self) -> Overlap:
        """The validation documents whose text is that of a training document too."""
        count = 0
        examples: list[LeakedDocument] = []
        for rows in self._slices("validation"):
            is_leaked = np.zeros(len(rows), dtype=bool)
            for trained in self._slices("train"):
                found = np.isin(rows["key"], trained["key"]) | np.isin(
                    rows["whole"], trained["key"]
                )
                new = np.flatnonzero(found & ~is_leaked)[: NUM_EXAMPLES - len(examples)]
                examples += (self._example(rows[index], trained) for index in new)
                is_leaked |= found
            count += int(is_leaked.sum())
        return Overlap(num_documents=count, examples=tuple(examples))

    def _note(self, split: str, document: Document, own: bytes, whole: bytes) -> None:
        if not self._items or self._items[-1] is not document.item:
            self._items.append(document.item)
        keys = (int.from_bytes(digest[:8], "little") for digest in (own, whole))
        self._files[split].write(ROW.pack(*keys, len(self._items) - 1, document.position))

    def _slices(self, split: str) -> Iterator[NDArray[Any]]:
        file = self._files[split]
        file.seek(0)
        while raw := file.read(SLICE * ROW.size):
            yield np.frombuffer(raw, dtype=ROWS)

    def _example(self, row: Any, trained: NDArray[Any]) -> LeakedDocument:
        is_same = (trained["key"] == row["key"]) | (trained["key"] == row["whole"])
        other = trained[int(np.argmax(is_same))]
        return LeakedDocument(validation=self._place(row), training=self._place(other))

    def _place(self, row: Any) -> str:
        item = self._items[int(row["item"])]
        number = f", document {int(row['position']) + 1:,}" if item.format == "jsonl" else ""
        return f"{item.source}{number}"
