"""Encodes text to token ids, and proves that the fast method gives the same ids as the slow one.

`tokenizers` (or `sentencepiece`, for a folder that has only its model) on uncut documents is the
reference. Long documents are cut to bound memory, only where `continuum.text.safe_places` proves
from the tokenizer's files that no token can change in any text. On a sample of the corpus and a
text of many scripts, the reference is compared with

- `gigatoken` on chunks, which is many times faster and is used if all ids are equal;
- otherwise itself on chunks, to detect an error in that proof.

The text of a special token in a document, such as `<|endoftext|>`, becomes that token, as in
`tokenizers` and therefore in LitGPT. The sample contains every added token between words, so a
library or a cut that handles them differently is not used.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from continuum.cpus import num_processors
from continuum.errors import ContinuumError, StageFailedError
from continuum.formatting import plural
from continuum.text.chunks import LONG_CHUNK_CHARS, TextChunker
from continuum.text.inspection import PROBE
from continuum.text.safe_places import SafePlaces, UncuttableError
from continuum.text.tokenizer import HuggingFaceTokenizer, LoadedTokenizer, load_tokenizer

PROOF_CHUNK_CHARS = 64
"""Much shorter than in production, so that the sample tests many thousands of cuts."""

PORTION_CHARS = 1 << 20
"""Text that `tokenizers` encodes at a time: it takes up to 190 bytes per character."""

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """The ids of a list of texts, one after another."""

    ids: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    """Number of ids of each text."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Encoded":
        """Join one list of ids per text."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum()))
        return cls(ids, lengths)

    def equals(self, other: "Encoded") -> bool:
        """True if the ids are the same, however the texts were divided."""
        return bool(np.array_equal(self.ids, other.ids))

    def split(self) -> Iterator[NDArray[np.uint32]]:
        """Yield the ids of each text."""
        start = 0
        for length in self.lengths.tolist():
            yield self.ids[start : start + length]
            start += length


class Encoder(Protocol):
    """A library that encodes texts without adding special tokens."""

    @property
    def name(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> Encoded: ...


@dataclass(frozen=True)
class Method:
    """How a corpus is tokenized."""

    encoder: Encoder
    chunker: TextChunker | None
    """None if cutting may change this tokenizer's tokens: documents are then encoded uncut."""
    remarks: tuple[str, ...]
    """Why it is not the fastest method."""
    tokenizer: LoadedTokenizer
    """The reference."""
    sample: Encoded
    """The reference's ids of the sample, followed by those of other texts."""

    def late_remarks(self) -> tuple[str, ...]:
        """Warnings that are known only after encoding."""
        num_long = self.chunker.num_long if self.chunker else 0
        if num_long == 0:
            return ()
        return (
            f"{plural(num_long, 'chunk')} of more than {LONG_CHUNK_CHARS:,} characters without a "
            "safe place to cut, tokenized in one pass: this takes about 150 bytes of memory per "
            "character",
        )


class Reference:
    """The tokenizer's own library, a portion of text at a time."""

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        self.tokenizer = tokenizer
        self.name = tokenizer.library

    def encode(self, texts: Sequence[str]) -> Encoded:
        encode = self.tokenizer.encode
        parts = [Encoded.of(encode(part)) for part in portions(texts, len, PORTION_CHARS)]
        if len(parts) == 1:
            return parts[0]
        ids = [np.empty(0, dtype=np.uint32), *(part.ids for part in parts)]
        lengths = [np.empty(0, dtype=np.int64), *(part.lengths for part in parts)]
        return Encoded(np.concatenate(ids), np.concatenate(lengths))


class GigatokenEncoder:
    """`gigatoken`, with `tokenizers` as the fallback for texts on which it fails."""

    def __init__(self, fallback: Reference) -> None:
        import awkward  # type: ignore[import-untyped]  # it ships no types
        import gigatoken

        self._awkward: Any = awkward
        self._tokenizer = gigatoken.Tokenizer(fallback.tokenizer.folder / "tokenizer.json")
        self._fallback = fallback
        self._has_failed = False

    @property
    def name(self) -> str:
        return "gigatoken, tokenizers" if self._has_failed else "gigatoken"

    def encode(self, texts: Sequence[str]) -> Encoded:
        if self._has_failed or not texts:
            return self._fallback.encode(texts)
        try:
            return self.encode_alone(texts)
        except (ContinuumError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a Rust panic is not an Exception
            self._has_failed = True
            return self._fallback.encode(texts)

    def encode_alone(self, texts: Sequence[str]) -> Encoded:
        """Encode without the fallback."""
        # Without `parallel` it uses one processor in child processes.
        rows = self._tokenizer.encode_batch(list(texts), parallel=num_processors() > 1)
        ids = self._awkward.to_numpy(self._awkward.flatten(rows)).astype(np.uint32, copy=False)
        return Encoded(ids, self._awkward.to_numpy(self._awkward.num(rows)))


def choose_method(folder: Path, sample: Sequence[str], *, name: str | None = None) -> Method:
    """The fastest method that gives the reference's ids on `sample` (see `sample_windows`).

    Args:
        name: The tokenizer's name in remarks.

    Raises:
        PreflightError: the tokenizer in `folder` cannot be loaded.
    """
    called = name or str(folder)
    reference = Reference(load_tokenizer(folder))
    tokenizer = reference.tokenizer
    texts = [*sample, PROBE, *map(_between_words, tokenizer.added.values())]
    remarks = []
    encoder: Encoder = reference
    with ThreadPoolExecutor(1) as pool:
        # The other library is loaded meanwhile: this call releases the interpreter lock.
        encoding = pool.submit(reference.encode, texts)
        places: SafePlaces | None = None
        try:
            places = tokenizer.safe_places()
        except UncuttableError as error:
            remarks.append(_unsplit_warning(called, str(error)))
        if isinstance(tokenizer, HuggingFaceTokenizer):
            try:
                encoder = _proved_gigatoken(reference, places, texts, encoding)
            except _UnusableError as error:
                remarks.append(f"{called}: {error}; tokenizers is used, which is slower")
        is_reference = encoder is reference
        if is_reference and places and not _is_equal(reference.encode, places, texts, encoding):
            remarks.insert(0, _unsplit_warning(called, "a difference on the sample"))
            places = None
    chunker = TextChunker(places) if places else None
    return Method(encoder, chunker, tuple(remarks), tokenizer, encoding.result())


def portions(items: Iterable[T], size: Callable[[T], int], at_least: int) -> Iterator[list[T]]:
    """Group consecutive items until their sizes reach `at_least`; the last group may be smaller."""
    portion: list[T] = []
    total = 0
    for item in items:
        portion.append(item)
        total += size(item)
        if total >= at_least:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion


def check_ids(encoded: Encoded, num_ids: int) -> None:
    """Check that all ids are in the vocabulary.

    Raises:
        StageFailedError: an id is too large.
    """
    if encoded.ids.size and int(encoded.ids.max()) >= num_ids:
        raise StageFailedError(
            f"the tokenizer produced id {int(encoded.ids.max())}, but its largest id is "
            f"{num_ids - 1}; its files have changed since they were inspected"
        )


class _UnusableError(Exception):
    """Why gigatoken is not used."""


def _proved_gigatoken(
    reference: Reference,
    places: SafePlaces | None,
    texts: Sequence[str],
    encoding: Future[Encoded],
) -> GigatokenEncoder:
    try:
        encoder = GigatokenEncoder(reference)
        is_equal = _is_equal(encoder.encode_alone, places, texts, encoding)
    except (ContinuumError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a Rust panic, whose message names its own source lines
        raise _UnusableError("gigatoken cannot use this tokenizer") from None
    if not is_equal:
        raise _UnusableError("gigatoken differs from tokenizers on a sample")
    return encoder


def _is_equal(
    encode: Callable[[Sequence[str]], Encoded],
    places: SafePlaces | None,
    texts: Sequence[str],
    expected: Future[Encoded],
) -> bool:
    """True if the ids of the texts, cut where possible, are the expected ones."""
    if places is not None:
        chunker = TextChunker(places, PROOF_CHUNK_CHARS)
        texts = [chunk for text in texts for chunk in chunker.cut((text,))]
    return encode(texts).equals(expected.result())


def _between_words(token: str) -> str:
    return f"word {token} word\n{token}word {token}\n\n{token}{token} word{token} {token}."


def _unsplit_warning(name: str, reason: str) -> str:
    return (
        f"{name}: long documents cannot be split without changing tokens (because of {reason}), "
        "so each document is tokenized in one pass and must fit in memory, at about 150 bytes per "
        f"character; documents of more than {LONG_CHUNK_CHARS:,} characters may exhaust it"
    )
