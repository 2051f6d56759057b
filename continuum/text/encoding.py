"""Text to token ids: the libraries that can, and the proof that the fast way is the right way.

`tokenizers` (or `sentencepiece`, for a folder that has only its model) on whole texts is the
reference. Long documents are cut, which bounds memory, where `continuum.text.safe_places` proves
from the tokenizer's files that no token can change, whatever the text. On a sample of the corpus
at hand, and on a text of many scripts, the reference is compared with

- `gigatoken` on cut chunks, many times faster: if equal token for token, it is used;
- else itself on cut chunks, to notice a mistake in that proof.

The text of a special token written in a document, such as `<|endoftext|>`, becomes that token, as
in `tokenizers` and so in LitGPT; the sample holds every added token between words, so a library
or a cut that sees them otherwise is not used.
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
from continuum.text.chunks import LONG_CHUNK_CHARS, TextChunker
from continuum.text.inspection import PROBE
from continuum.text.safe_places import SafePlaces, UncuttableError
from continuum.text.tokenizer import HuggingFaceTokenizer, LoadedTokenizer, load_tokenizer

PROOF_CHUNK_CHARS = 64
"""Far shorter than in use, so that the sample tries many thousand cuts."""

PORTION_CHARS = 1 << 20
"""Text that `tokenizers` encodes at a time: it takes up to 190 bytes for each character."""

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """The ids of a list of texts, one after another."""

    ids: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    """How many ids each text has."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Encoded":
        """From one list of ids a text."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum()))
        return cls(ids, lengths)

    def equals(self, other: "Encoded") -> bool:
        """Whether the ids are the same, however the texts were divided."""
        return bool(np.array_equal(self.ids, other.ids))

    def split(self) -> Iterator[NDArray[np.uint32]]:
        """The ids of each text."""
        start = 0
        for length in self.lengths.tolist():
            yield self.ids[start : start + length]
            start += length


class Encoder(Protocol):
    """A library that turns texts into ids, without adding special tokens of its own."""

    @property
    def name(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> Encoded: ...


@dataclass(frozen=True)
class Method:
    """How a corpus is tokenized."""

    encoder: Encoder
    chunker: TextChunker | None
    """None: documents are encoded whole, because cutting may change this tokenizer's tokens."""
    remarks: tuple[str, ...]
    """Why it is not the fastest way."""
    tokenizer: LoadedTokenizer
    """The reference."""
    sample: Encoded
    """The reference's ids of the sample, and then of other texts."""

    def late_remarks(self) -> tuple[str, ...]:
        """What only the work itself could tell."""
        num_long = self.chunker.num_long if self.chunker else 0
        if num_long == 0:
            return ()
        return (
            f"text without a place to cut for {LONG_CHUNK_CHARS:,} characters, {num_long:,} "
            "time(s), was tokenized in one chunk, so that no token differs; it takes about 150 "
            "bytes of memory for each of its characters",
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
    """`gigatoken`, with `tokenizers` in reserve for texts on which it fails."""

    def __init__(self, reserve: Reference) -> None:
        import awkward  # type: ignore[import-untyped]  # it ships no types
        import gigatoken

        self._awkward: Any = awkward
        self._tokenizer = gigatoken.Tokenizer(reserve.tokenizer.folder / "tokenizer.json")
        self._reserve = reserve
        self._has_failed = False

    @property
    def name(self) -> str:
        return "gigatoken, tokenizers" if self._has_failed else "gigatoken"

    def encode(self, texts: Sequence[str]) -> Encoded:
        if self._has_failed or not texts:
            return self._reserve.encode(texts)
        try:
            return self.encode_alone(texts)
        except (ContinuumError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic in Rust is no Exception
            self._has_failed = True
            return self._reserve.encode(texts)

    def encode_alone(self, texts: Sequence[str]) -> Encoded:
        """Encode without the reserve."""
        # Without `parallel` it works on one processor in every child process.
        rows = self._tokenizer.encode_batch(list(texts), parallel=num_processors() > 1)
        ids = self._awkward.to_numpy(self._awkward.flatten(rows)).astype(np.uint32, copy=False)
        return Encoded(ids, self._awkward.to_numpy(self._awkward.num(rows)))


def choose_method(folder: Path, sample: Sequence[str], *, name: str | None = None) -> Method:
    """The fastest way that gives the reference's tokens on `sample` (see `sample_texts`).

    Args:
        name: What remarks call the tokenizer.

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
        # Loading the other library takes as long as this, and this lets other threads work.
        encoding = pool.submit(reference.encode, texts)
        places: SafePlaces | None = None
        try:
            places = tokenizer.safe_places()
        except UncuttableError as error:
            remarks.append(_uncut_warning(called, str(error)))
        if isinstance(tokenizer, HuggingFaceTokenizer):
            try:
                encoder = _proved_gigatoken(reference, places, texts, encoding)
            except _UnusableError as error:
                remarks.append(f"{called}: {error}; tokenizers is used, which is slower")
        is_reference = encoder is reference
        if is_reference and places and not _is_equal(reference.encode, places, texts, encoding):
            remarks.insert(0, _uncut_warning(called, "a difference on the sample"))
            places = None
    chunker = TextChunker(places) if places else None
    return Method(encoder, chunker, tuple(remarks), tokenizer, encoding.result())


def portions(items: Iterable[T], size: Callable[[T], int], at_least: int) -> Iterator[list[T]]:
    """Neighbours together until their sizes make up `at_least`; the last may have less."""
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
    """Refuse ids outside the vocabulary.

    Raises:
        StageFailedError: an id is too large for the models made for this tokenizer.
    """
    if encoded.ids.size and int(encoded.ids.max()) >= num_ids:
        raise StageFailedError(
            f"the tokenizer made id {int(encoded.ids.max())}, but its largest was to be "
            f"{num_ids - 1}; its files were changed since they were inspected"
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
    except BaseException:  # a panic in Rust, whose words speak of its own lines
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
    """Whether the ids of the texts, cut where they may be, are those expected."""
    if places is not None:
        chunker = TextChunker(places, PROOF_CHUNK_CHARS)
        texts = [chunk for text in texts for chunk in chunker.cut((text,))]
    return encode(texts).equals(expected.result())


def _between_words(token: str) -> str:
    return f"word {token} word\n{token}word {token}\n\n{token}{token} word{token} {token}."


def _uncut_warning(name: str, reason: str) -> str:
    return (
        f"{name}: no place can be proved where cutting a text leaves this tokenizer's "
        f"tokens as they are (because of {reason}), so each document is tokenized whole and must "
        "fit in memory (about 150 bytes for each of its characters); only documents below "
        f"{LONG_CHUNK_CHARS:,} characters are no concern"
    )
