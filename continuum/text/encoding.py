"""Text to token ids: the libraries that can, and the proof that the fast way is the right way.

`tokenizers` (or `sentencepiece`, for a folder that has only its model) on whole texts is the
reference. Long documents are cut, which bounds memory, where `continuum.text.safe_places` proves
from the tokenizer's files that no token can change, whatever the text. On a sample of the corpus
at hand, and on a text of many scripts, the reference is compared with

- `gigatoken` on cut pieces, many times faster: if equal token for token, it is used;
- else itself on cut pieces, to notice a mistake in that proof.

The text of a special token written in a document, such as `<|endoftext|>`, becomes that token, as
in `tokenizers` and so in LitGPT; the sample holds every added token between words, so a library
or a cut that sees them otherwise is not used.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from continuum.errors import ContinuumError, StageFailedError
from continuum.processors import num_processors
from continuum.text.encoded import Encoded, encoded_rows
from continuum.text.pieces import LONG_PIECE_CHARS, Cutter
from continuum.text.round_trip import RoundTrip, SentencePieceRoundTrip, TokenizersRoundTrip
from continuum.text.safe_places import SafePlaces, UncuttableError
from continuum.text.tokenizer_check import PROBE
from continuum.text.tokenizing import load_tokenizer_json, vocabulary_file

PROOF_PIECE_CHARS = 64
"""Far shorter than in use, so that the sample tries many thousand cuts."""

PORTION_CHARS = 1 << 20
"""Text that `tokenizers` encodes at a time: it takes up to 190 bytes for each character."""

T = TypeVar("T")


class Encoder(Protocol):
    """A library that turns texts into ids, without adding special tokens of its own."""

    @property
    def name(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> Encoded: ...


@dataclass(frozen=True)
class Method:
    """How a corpus is tokenized."""

    encoder: Encoder
    cutter: Cutter | None
    """None: documents are encoded whole, because cutting may change this tokenizer's tokens."""
    remarks: tuple[str, ...]
    """Why it is not the fastest way."""
    round_trip: RoundTrip
    """The reference, there and back."""
    sample: Encoded
    """The reference's ids of the sample, and then of other texts."""

    def late_remarks(self) -> tuple[str, ...]:
        """What only the work itself could tell."""
        num_long = self.cutter.num_long if self.cutter else 0
        if num_long == 0:
            return ()
        return (
            f"text without a place to cut for {LONG_PIECE_CHARS:,} characters, {num_long:,} "
            "time(s), was tokenized in one piece, so that no token differs; it takes about 150 "
            "bytes of memory for each of its characters",
        )


class TokenizersEncoder:
    """Hugging Face `tokenizers`."""

    name = "tokenizers"

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer_json(folder)
        self.round_trip = TokenizersRoundTrip(self._tokenizer, folder)

    def safe_places(self) -> SafePlaces:
        """Where texts may be cut.

        Raises:
            UncuttableError: nowhere, as far as can be proved.
        """
        return SafePlaces(self._tokenizer)

    @property
    def added_tokens(self) -> list[str]:
        """The texts that become one token wherever they stand."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]

    def encode(self, texts: Sequence[str]) -> Encoded:
        parts = [self._encode(part) for part in portions(texts, len, PORTION_CHARS)]
        if len(parts) == 1:
            return parts[0]
        ids = [np.empty(0, dtype=np.uint32), *(part.ids for part in parts)]
        lengths = [np.empty(0, dtype=np.int64), *(part.lengths for part in parts)]
        return Encoded(np.concatenate(ids), np.concatenate(lengths))

    def _encode(self, texts: list[str]) -> Encoded:
        return encoded_rows(self.round_trip.encode(texts))


class SentencePieceEncoder:
    """Google's `sentencepiece`."""

    name = "sentencepiece"
    added_tokens: tuple[str, ...] = ()

    def safe_places(self) -> SafePlaces:
        """Raises UncuttableError: its model begins every text with a space of its own."""
        raise UncuttableError("sentencepiece, which treats the beginning of a text apart")

    def __init__(self, folder: Path) -> None:
        self.round_trip = SentencePieceRoundTrip(folder)

    def encode(self, texts: Sequence[str]) -> Encoded:
        return encoded_rows(self.round_trip.encode(texts))


class GigatokenEncoder:
    """`gigatoken`, with `tokenizers` in reserve for texts on which it fails."""

    def __init__(self, folder: Path, reserve: TokenizersEncoder) -> None:
        import awkward  # type: ignore[import-untyped]  # it ships no types
        import gigatoken

        self._awkward: Any = awkward
        self._tokenizer = gigatoken.Tokenizer(folder / "tokenizer.json")
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
    has_json = vocabulary_file(folder).name == "tokenizer.json"
    reference = TokenizersEncoder(folder) if has_json else SentencePieceEncoder(folder)
    texts = [*sample, PROBE, *_with_added_tokens(reference.added_tokens)]
    remarks = []
    with ThreadPoolExecutor(1) as pool:
        # Loading the other library takes as long as this, and this lets other threads work.
        encoding = pool.submit(reference.encode, texts)
        places: SafePlaces | None = None
        try:
            places = reference.safe_places()
        except UncuttableError as error:
            remarks.append(_uncut_warning(called, str(error)))
        if isinstance(reference, TokenizersEncoder):
            fast = _proved_gigatoken(folder, reference, places, texts, encoding, called)
            if isinstance(fast, GigatokenEncoder):
                reference_ids = encoding.result()
                return _method(fast, places, remarks, reference.round_trip, reference_ids)
            remarks.append(fast)
        if places and not _is_equal(reference.encode, places, texts, encoding.result()):
            remarks.insert(0, _uncut_warning(called, "a difference on the sample"))
            places = None
    return _method(reference, places, remarks, reference.round_trip, encoding.result())


def _method(
    encoder: Encoder,
    places: SafePlaces | None,
    remarks: Sequence[str],
    round_trip: RoundTrip,
    sample: Encoded,
) -> Method:
    cutter = Cutter(places) if places else None
    return Method(encoder, cutter, tuple(remarks), round_trip, sample)


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


def _proved_gigatoken(
    folder: Path,
    reference: TokenizersEncoder,
    places: SafePlaces | None,
    texts: Sequence[str],
    encoding: Future[Encoded],
    name: str,
) -> GigatokenEncoder | str:
    """The encoder, or why it cannot be used."""
    try:
        encoder = GigatokenEncoder(folder, reference)
        is_equal = _is_equal(encoder.encode_alone, places, texts, encoding.result())
    except (ContinuumError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic in Rust, whose words speak of its own lines
        return f"{name}: gigatoken cannot use this tokenizer; tokenizers is used, which is slower"
    if is_equal:
        return encoder
    differs = "gigatoken differs from tokenizers on a sample"
    return f"{name}: {differs}; tokenizers is used, which is slower"


def _is_equal(
    encode: Callable[[Sequence[str]], Encoded],
    places: SafePlaces | None,
    texts: Sequence[str],
    expected: Encoded,
) -> bool:
    """Whether the ids of the texts, cut where they may be, are those expected."""
    if places is None:
        return encode(texts).equals(expected)
    cutter = Cutter(places, PROOF_PIECE_CHARS)
    return encode([piece for text in texts for piece in cutter.cut((text,))]).equals(expected)


def _with_added_tokens(tokens: Sequence[str]) -> list[str]:
    return [
        f"word {token} word\n{token}word {token}\n\n{token}{token} word{token} {token}."
        for token in tokens
    ]


def _uncut_warning(name: str, reason: str) -> str:
    return (
        f"{name}: no place can be proved where cutting a text leaves this tokenizer's "
        f"tokens as they are (because of {reason}), so each document is tokenized whole and must "
        "fit in memory (about 150 bytes for each of its characters); only documents below "
        f"{LONG_PIECE_CHARS:,} characters are no concern"
    )
