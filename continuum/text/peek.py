"""Reads documents of a corpus or a tokenized dataset as training sees them."""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.errors import IntegrityError, UsageError
from continuum.runs.artifacts import Corpus, CorpusItem, TokenizedDataset
from continuum.runs.text_records import Split
from continuum.sources.token_chunks import HEADER_NUMBER_BYTES, read_chunk_folder
from continuum.text.documents import read_index
from continuum.text.reading import Document, read_documents
from continuum.text.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Token:
    """One token of a document."""

    id: int
    text: str
    """Bytes of a partial character are lone surrogates (`surrogateescape`)."""
    is_special: bool


@dataclass(frozen=True)
class Shown:
    """A document, or the shown part of it."""

    number: int
    """Its number in the corpus or split, from 1."""
    source: str
    """The text or file it comes from; empty if unknown."""
    position: int | None
    """Its number in the source, from 1; None if the source is one document."""
    length: int
    """Length of the document in tokens, or in characters for a corpus."""
    start: int
    """Offset of the shown part, in the same unit."""
    text: str = ""
    """The text, or the joined tokens."""
    tokens: tuple[Token, ...] | None = None

    @property
    def shown_length(self) -> int:
        """Length of the shown part, in the unit of `length`."""
        return len(self.text) if self.tokens is None else len(self.tokens)


class Documents(ABC):
    """Selects documents; `length` limits how much of each is shown."""

    unit: str

    @abstractmethod
    def one(self, number: int, length: int) -> Shown:
        """Document `number`, from 1.

        Raises:
            UsageError: no such document.
        """

    @abstractmethod
    def some(self, count: int, length: int, seed: int | None) -> list[Shown]:
        """Random documents, in their order."""

    @abstractmethod
    def matching(self, pattern: re.Pattern[str], length: int) -> Iterator[Shown]:
        """Documents that match the pattern, around the first match."""


class CorpusDocuments(Documents):
    """The documents of a corpus, read from the first on, as for tokenization."""

    unit = "characters"

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def one(self, number: int, length: int) -> Shown:
        last = 0
        for last, document in enumerate(read_documents(self._corpus), start=1):
            if last == number:
                return _beginning(number, document, length)
        raise UsageError(f"no document {number:,}: the corpus has {last:,}")

    def some(self, count: int, length: int, seed: int | None) -> list[Shown]:
        draw = random.Random(seed)
        kept: list[Shown] = []
        for number, document in enumerate(read_documents(self._corpus), start=1):
            place = len(kept) if len(kept) < count else draw.randrange(number)
            if place < count:
                kept[place : place + 1] = [_beginning(number, document, length)]
        return sorted(kept, key=lambda shown: shown.number)

    def matching(self, pattern: re.Pattern[str], length: int) -> Iterator[Shown]:
        for number, document in enumerate(read_documents(self._corpus), start=1):
            text = "".join(document.fragments)
            if match := pattern.search(text):
                start = _start_around(match.start(), len(text), length)
                yield _shown_text(number, document, text[start : start + length], len(text), start)


class DatasetDocuments(Documents):
    """The documents of one split of a tokenized dataset."""

    unit = "tokens"

    def __init__(
        self, dataset: TokenizedDataset, split_name: str, items: Sequence[CorpusItem]
    ) -> None:
        """Open the split.

        Args:
            items: The items of its corpora, in order; empty if unknown.

        Raises:
            UsageError: the dataset has no such split.
            IntegrityError: its files are corrupt.
            PreflightError: its tokenizer cannot be loaded.
        """
        split = dataset.train if split_name == "train" else dataset.validation
        if split is None:
            raise UsageError(f"the dataset has no {split_name} split")
        self._name = split_name
        self._stream = TokenStream(dataset.path / split_name, split, dataset.dtype)
        self._tokenizer = load_tokenizer(dataset.path / "tokenizer")
        self._items = items
        self._index = read_index(dataset.path, split_name, split)
        self._split = split

    @property
    def has_index(self) -> bool:
        """False if document boundaries are unknown; the split is then shown as one document."""
        return self._index is not None

    def one(self, number: int, length: int) -> Shown:
        if not 1 <= number <= len(self):
            raise UsageError(f"no document {number:,}: the {self._name} split has {len(self):,}")
        return self._show(number, 0, length)

    def some(self, count: int, length: int, seed: int | None) -> list[Shown]:
        draw = random.Random(seed)
        chosen = draw.sample(range(1, len(self) + 1), min(count, len(self)))
        return [self._show(number, 0, length) for number in sorted(chosen)]

    def matching(self, pattern: re.Pattern[str], length: int) -> Iterator[Shown]:
        for number in range(1, len(self) + 1):
            start, end = self._bounds(number)
            pieces = [self._tokenizer.bytes_of(int(it)) for it in self._stream.read(start, end)]
            text = b"".join(pieces).decode("utf-8", "surrogateescape")
            if match := pattern.search(text):
                at_byte = len(text[: match.start()].encode("utf-8", "surrogateescape"))
                at_token = _token_at(pieces, at_byte)
                yield self._show(number, _start_around(at_token, end - start, length), length)

    def __len__(self) -> int:
        if self._index is not None:
            return len(self._index)
        return 1 if self._split.num_tokens else 0

    def _bounds(self, number: int) -> tuple[int, int]:
        if self._index is None:
            return 0, len(self._stream)
        start = int(self._index[number - 2]["end"]) if number > 1 else 0
        return start, int(self._index[number - 1]["end"])

    def _show(self, number: int, offset: int, length: int) -> Shown:
        start, end = self._bounds(number)
        ids = [
            int(it) for it in self._stream.read(start + offset, min(end, start + offset + length))
        ]
        if len(ids) != min(length, end - start - offset):
            raise IntegrityError(
                f"document {number:,} of {self._name} has fewer tokens than its index says; "
                "rebuild the dataset"
            )
        source, position = self._place(number)
        return Shown(
            number=number,
            source=source,
            position=position,
            length=end - start,
            start=offset,
            text=b"".join(map(self._tokenizer.bytes_of, ids)).decode("utf-8", "surrogateescape"),
            tokens=tuple(self._token(token_id) for token_id in ids),
        )

    def _token(self, token_id: int) -> Token:
        text = self._tokenizer.bytes_of(token_id).decode("utf-8", "surrogateescape")
        return Token(token_id, text, token_id in self._tokenizer.special_ids)

    def _place(self, number: int) -> tuple[str, int | None]:
        if self._index is None:
            return "", None
        row = self._index[number - 1]
        item, position = int(row["item"]), int(row["position"])
        if item >= len(self._items):
            return f"source {item + 1:,}", position + 1
        found = self._items[item]
        return found.source, position + 1 if found.format == "jsonl" else None


class TokenStream:
    """The tokens of a split; reads only the requested ones."""

    def __init__(self, folder: Path, split: Split, dtype: str) -> None:
        """Read the index of the chunks.

        Raises:
            PreflightError: it is corrupt.
        """
        self._folder = folder
        self._chunks = read_chunk_folder(folder).chunks if split.num_tokens else ()
        self._ends = np.cumsum(np.array(split.chunk_tokens, dtype=np.int64))
        self._dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, end: int) -> NDArray[Any]:
        """The ids of tokens `[start, end)`; 1-D, of the dataset's dtype."""
        parts = [np.empty(0, dtype=self._dtype)]
        number = int(np.searchsorted(self._ends, start, side="right"))
        while start < end and number < len(self._chunks):
            chunk = self._chunks[number]
            begin = int(self._ends[number]) - chunk.num_tokens
            count = min(end, int(self._ends[number])) - start
            header = (chunk.num_items + 2) * HEADER_NUMBER_BYTES
            with (self._folder / chunk.name).open("rb") as file:
                file.seek(header + (start - begin) * self._dtype.itemsize)
                parts.append(np.fromfile(file, dtype=self._dtype, count=count))
            start += count
            number += 1
        return np.concatenate(parts)


def _shown_text(number: int, document: Document, text: str, total: int, start: int = 0) -> Shown:
    place = document.position + 1 if document.item.format == "jsonl" else None
    return Shown(number, document.item.source, place, total, start, text)


def _beginning(number: int, document: Document, length: int) -> Shown:
    kept = ""
    total = 0
    for fragment in document.fragments:
        kept += fragment[: length - len(kept)]
        total += len(fragment)
    return _shown_text(number, document, kept, total)


def _start_around(place: int, total: int, length: int) -> int:
    """The start of a window of `length` with `place` at one third."""
    return max(0, min(place - length // 3, total - length))


def _token_at(pieces: Sequence[bytes], at_byte: int) -> int:
    total = 0
    for number, piece in enumerate(pieces):
        total += len(piece)
        if total > at_byte:
            return number
    return len(pieces)
