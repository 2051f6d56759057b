"""Finds what of a corpus is not in its tokens, while they are made.

Three looks, each for what the others miss:

- a sample of the corpus is decoded and compared before anything is written, so that a tokenizer
  that does not suit it is refused early;
- every short document is decoded too, as far as `SHORT_BUDGET_CHARS` and a hundredth of the
  corpus go: what is lost at the ends of documents shows there;
- every distinct character of the whole corpus is tried where it is first met; those that do not
  come back are counted, wherever they are. A byte-level tokenizer with all bytes needs no trial.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from continuum.text.encoded import Encoded
from continuum.text.lost_characters import LostCharacters
from continuum.text.pieces import Piece
from continuum.text.round_trip import RoundTrip
from continuum.text.sampling import Sampled
from continuum.text.text_loss import Difference, Excerpt, compare
from continuum.text_records import LossExample, TextLoss

SHORT_CHARS = 4096
SHORT_BUDGET_CHARS = 1 << 20
SHORT_SHARE = 100
"""Of the corpus, one character in so many is compared beyond the budget."""
MAX_SHARE_LOST = 0.001
"""More is refused."""
NUM_EXAMPLES = 6


class LossWatch:
    """Sees texts with their ids, and tells what was lost."""

    def __init__(self, round_trip: RoundTrip) -> None:
        self._round_trip = round_trip
        self._characters: LostCharacters | None = None
        if not round_trip.keeps_all_bytes and not round_trip.reads_words:
            self._characters = LostCharacters(round_trip)
        self._num_chars = 0
        self._num_unknown = 0
        self._num_compared = 0
        self._short_chars = 0
        self._sampled: set[tuple[str, int]] = set()
        """Documents that the sample has whole."""
        self._lost: Counter[str] = Counter()
        self._rewritten = 0
        self._examples: dict[str, LossExample] = {}

    def see_sample(self, windows: Sequence[Sampled], rows: Sequence[Sequence[int]]) -> TextLoss:
        """Compare a sample with what its ids say."""
        whole = [_of_sample(window) for window in windows]
        ids = {excerpt: row for excerpt, row in zip(whole, rows, strict=True)}
        excerpts = list(_apart(whole))
        if self._round_trip.reads_words:
            excerpts = [_whole_words(excerpt) for excerpt in excerpts]
        new = [excerpt for excerpt in excerpts if excerpt not in ids]
        encoded = self._round_trip.encode([excerpt.text for excerpt in new])
        ids |= zip(new, encoded, strict=True)
        self._compare(excerpts, [ids[excerpt] for excerpt in excerpts])
        self._sampled = {(e.source, e.document) for e in excerpts if e.begins and e.ends}
        loss = self.result()
        return loss.model_copy(update={"num_chars": self._num_compared})

    def see(self, pieces: Sequence[Piece], encoded: Encoded) -> list[int]:
        """Watch pieces of documents pass with their ids; returns the unknown ids of each."""
        self._num_chars += sum(len(piece.text) for piece in pieces)
        num_unknown = self._count_unknown(pieces, encoded)
        self._num_unknown += sum(num_unknown)
        if self._characters is not None:
            for piece in pieces:
                self._characters.see(piece)
        self._compare_short(pieces, encoded)
        return num_unknown

    def result(self) -> TextLoss:
        """What was found until now."""
        examples = dict(self._examples)
        never_kept: dict[str, int] = {}
        if self._characters is not None:
            never_kept = self._characters.by_kind()
            for example in self._characters.examples():
                examples.setdefault(example.kind, example)
        has_unknown = self._round_trip.unknown_id is not None
        return TextLoss(
            num_chars=self._num_chars,
            num_unknown=self._num_unknown if has_unknown else None,
            never_kept=never_kept,
            num_compared=self._num_compared,
            lost=dict(self._lost),
            rewritten=self._rewritten,
            examples=tuple(examples.values())[:NUM_EXAMPLES],
        )

    def _count_unknown(self, pieces: Sequence[Piece], encoded: Encoded) -> list[int]:
        """The unknown ids of each piece, without those that the text itself bears."""
        unknown_id, text = self._round_trip.unknown_id, self._round_trip.unknown_text
        is_unknown = encoded.ids == unknown_id if unknown_id is not None else None
        if is_unknown is None or not is_unknown.any():
            return [0] * len(pieces)
        sums = np.concatenate(([0], np.cumsum(is_unknown)))
        ends = np.cumsum(encoded.lengths)
        found: list[int] = (sums[ends] - sums[ends - encoded.lengths]).tolist()
        if not (self._round_trip.is_literal and text):
            return found
        pairs = zip(found, pieces, strict=True)
        return [max(0, number - piece.text.count(text)) for number, piece in pairs]

    def _compare_short(self, pieces: Sequence[Piece], encoded: Encoded) -> None:
        room = SHORT_BUDGET_CHARS + self._num_chars // SHORT_SHARE - self._short_chars
        excerpts, rows = [], []
        start = 0
        for piece, length in zip(pieces, encoded.lengths.tolist(), strict=True):
            if room <= 0:
                break
            if piece.begins and piece.ends and len(piece.text) <= SHORT_CHARS:
                excerpt = _of_piece(piece)
                if (excerpt.source, excerpt.document) not in self._sampled:
                    excerpts.append(excerpt)
                    rows.append(encoded.ids[start : start + length].tolist())
                    room -= len(piece.text)
                    self._short_chars += len(piece.text)
            start += length
        self._compare(excerpts, rows)

    def _compare(self, excerpts: Sequence[Excerpt], rows: Sequence[Sequence[int]]) -> None:
        if not excerpts:
            return
        decoded = self._round_trip.decode(rows)
        for excerpt, text in zip(excerpts, decoded, strict=True):
            self._note(compare(excerpt, text, self._round_trip.unknown_text))
            self._num_compared += len(excerpt.text)

    def _note(self, difference: Difference) -> None:
        self._lost.update(difference.lost)
        self._rewritten += difference.rewritten
        for example in difference.examples:
            self._examples.setdefault(example.kind, example)


def problem_of(loss: TextLoss, name: str) -> str | None:
    """Why a tokenizer does not suit a corpus; None if it loses at most 0.1 % of it."""
    shares = [
        sum(lost.values()) / max(1, of)
        for lost, of in ((loss.lost, loss.num_compared), (loss.never_kept, loss.num_chars))
    ]
    if max(shares) <= MAX_SHARE_LOST:
        return None
    return (
        f"{name}: this tokenizer loses text of the corpus: {_counts(loss)}; use a tokenizer that "
        "gives all of it back, such as a byte-level BPE (`kind: train_tokenizer` makes one), or "
        "state `lossy: allow` to train on what is left"
    )


def remarks_on(loss: TextLoss, name: str) -> tuple[str, ...]:
    """What is worth a warning."""
    remarks = []
    if loss.lost or loss.never_kept or loss.num_unknown:
        remarks.append(f"{name}: this tokenizer loses text of the corpus: {_counts(loss)}")
    if loss.rewritten:
        remarks.append(
            f"{name}: this tokenizer writes text in another canonical form of Unicode: "
            f"{loss.rewritten:,} of {loss.num_compared:,} compared characters; it is the same text"
        )
    return tuple(remarks)


def _counts(loss: TextLoss) -> str:
    parts = []
    if loss.lost:
        parts.append(_share(loss.lost, loss.num_compared, "compared characters"))
    if loss.never_kept:
        parts.append(
            _share(loss.never_kept, loss.num_chars, "characters of the corpus") + " never come back"
        )
    if loss.num_unknown:
        parts.append(f"{loss.num_unknown:,} ids are the unknown one")
    examples = "; ".join(map(str, loss.examples[:3]))
    return "; ".join(parts) + (f" (for example {examples})" if examples else "")


def _share(lost: dict[str, int], of: int, what: str) -> str:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(lost.items(), key=_by_number))
    total = sum(lost.values())
    return f"{total:,} of {of:,} {what} ({100 * total / max(1, of):.2g} %: {kinds})"


def _by_number(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _of_sample(window: Sampled) -> Excerpt:
    document = window.document
    return Excerpt(
        window.text,
        document.item.source,
        document.position + 1,
        window.start,
        begins=window.begins,
        ends=window.ends,
    )


def _of_piece(piece: Piece) -> Excerpt:
    document = piece.document
    source, number = (document.item.source, document.position + 1) if document else ("", 1)
    return Excerpt(piece.text, source, number, piece.start)


def _apart(excerpts: Sequence[Excerpt]) -> Iterator[Excerpt]:
    """The same, in the order of their places, without what two of them have in common."""
    last: Excerpt | None = None
    for excerpt in sorted(excerpts, key=lambda e: (e.source, e.document, e.start, -len(e.text))):
        if last is not None and (last.source, last.document) == (excerpt.source, excerpt.document):
            known = max(0, last.end - excerpt.start)
            if known >= len(excerpt.text):
                continue
            if known:
                excerpt = replace(
                    excerpt, text=excerpt.text[known:], start=excerpt.start + known, begins=False
                )
        last = excerpt
        yield excerpt


def _whole_words(excerpt: Excerpt) -> Excerpt:
    """Without the parts of words at ends that are not the document's."""
    text, start = excerpt.text, excerpt.start
    if not excerpt.begins:
        kept = text.lstrip() if text[:1].isspace() else text[len(text.split(maxsplit=1)[0]) :]
        text, start = kept, start + len(text) - len(kept)
    if not excerpt.ends and text and not text[-1].isspace():
        text = text[: len(text) - len(text.rsplit(maxsplit=1)[-1])]
    return replace(excerpt, text=text, start=start)
