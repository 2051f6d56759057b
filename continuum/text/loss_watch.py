"""Measures what text a tokenizer loses, while a corpus is tokenized.

Three checks, each for what the others miss:

- a sample of the corpus is decoded and compared before anything is written, so that an unsuitable
  tokenizer fails early;
- every short document is decoded too, up to `SHORT_BUDGET_CHARS` and a hundredth of the corpus,
  which finds losses at the ends of documents;
- every distinct character of the corpus is tested at its first occurrence; lost characters are
  counted everywhere. A byte-level tokenizer with all bytes needs no such test.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

from continuum.runs.text_records import LossExample, TextLoss
from continuum.text.chunks import TextChunk
from continuum.text.encoding import Encoded
from continuum.text.text_loss import compare
from continuum.text.tokenizer import LoadedTokenizer

AROUND_CHARS = 16
SHORT_CHARS = 4096
SHORT_BUDGET_CHARS = 1 << 20
SHORT_SHARE = 100
"""Beyond the budget, one in so many characters of the corpus is compared."""
MAX_SHARE_LOST = 0.001
"""The largest accepted share."""
NUM_EXAMPLES = 6


class LossWatch:
    """Compares texts with their ids and counts the losses."""

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        self._tokenizer = tokenizer
        self._characters: _LostCharacters | None = None
        if not tokenizer.keeps_all_bytes and not tokenizer.reads_words:
            self._characters = _LostCharacters(tokenizer)
        self._num_chars = 0
        self._num_unknown = 0
        self._num_compared = 0
        self._short_chars = 0
        self._sampled: set[tuple[str, int]] = set()
        """Documents that the sample contains completely."""
        self._lost: Counter[str] = Counter()
        self._rewritten = 0
        self._examples: dict[str, LossExample] = {}

    def see_sample(self, windows: Sequence[TextChunk], encoded: Encoded) -> TextLoss:
        """Compare a sample with its ids, which are the first of `encoded`."""
        known = dict(zip(map(_key, windows), encoded.split(), strict=False))
        chunks = list(_apart(windows))
        if self._tokenizer.reads_words:
            chunks = [_whole_words(chunk) for chunk in chunks]
        new = [chunk for chunk in chunks if _key(chunk) not in known]
        known |= zip(
            map(_key, new),
            Encoded.of(self._tokenizer.encode([it.text for it in new])).split(),
            strict=True,
        )
        self._compare(chunks, [known[_key(chunk)].tolist() for chunk in chunks])
        self._sampled = {chunk.place for chunk in chunks if chunk.begins and chunk.ends}
        return self.result().model_copy(update={"num_chars": self._num_compared})

    def see(self, chunks: Sequence[TextChunk], encoded: Encoded) -> list[int]:
        """Check chunks with their ids; return the number of unknown ids in each."""
        self._num_chars += sum(len(chunk.text) for chunk in chunks)
        num_unknown = self._count_unknown(chunks, encoded)
        self._num_unknown += sum(num_unknown)
        if self._characters is not None:
            for chunk in chunks:
                self._characters.see(chunk)
        self._compare_short(chunks, encoded)
        return num_unknown

    def result(self) -> TextLoss:
        """The losses found so far."""
        examples = dict(self._examples)
        never_kept: dict[str, int] = {}
        if self._characters is not None:
            never_kept = self._characters.by_kind()
            for example in self._characters.examples():
                examples.setdefault(example.kind, example)
        has_unknown = self._tokenizer.unknown_id is not None
        return TextLoss(
            num_chars=self._num_chars,
            num_unknown=self._num_unknown if has_unknown else None,
            never_kept=never_kept,
            num_compared=self._num_compared,
            lost=dict(self._lost),
            rewritten=self._rewritten,
            examples=tuple(examples.values())[:NUM_EXAMPLES],
        )

    def _count_unknown(self, chunks: Sequence[TextChunk], encoded: Encoded) -> list[int]:
        """The unknown ids of each chunk, without those written in the text."""
        unknown_id = self._tokenizer.unknown_id
        if unknown_id is None or not (encoded.ids == unknown_id).any():
            return [0] * len(chunks)
        found = [int((ids == unknown_id).sum()) for ids in encoded.split()]
        written = self._tokenizer.unknown_text if self._tokenizer.is_literal else ""
        if not written:
            return found
        pairs = zip(found, chunks, strict=True)
        return [max(0, number - chunk.text.count(written)) for number, chunk in pairs]

    def _compare_short(self, chunks: Sequence[TextChunk], encoded: Encoded) -> None:
        room = SHORT_BUDGET_CHARS + self._num_chars // SHORT_SHARE - self._short_chars
        short, rows = [], []
        for chunk, ids in zip(chunks, encoded.split(), strict=True):
            if room <= 0:
                break
            is_whole = chunk.begins and chunk.ends and len(chunk.text) <= SHORT_CHARS
            if is_whole and chunk.place not in self._sampled:
                short.append(chunk)
                rows.append(ids.tolist())
                room -= len(chunk.text)
                self._short_chars += len(chunk.text)
        self._compare(short, rows)

    def _compare(self, chunks: Sequence[TextChunk], rows: Sequence[Sequence[int]]) -> None:
        if not chunks:
            return
        decoded = self._tokenizer.decode(rows)
        for chunk, text in zip(chunks, decoded, strict=True):
            difference = compare(chunk, text, self._tokenizer.unknown_text)
            self._num_compared += len(chunk.text)
            self._lost.update(difference.lost)
            self._rewritten += difference.rewritten
            for example in difference.examples:
                self._examples.setdefault(example.kind, example)


def problem_of(loss: TextLoss, name: str) -> str | None:
    """The error of a tokenizer that loses more than 0.1 % of a corpus; else None."""
    shares = [
        sum(lost.values()) / max(1, of)
        for lost, of in ((loss.lost, loss.num_compared), (loss.never_kept, loss.num_chars))
    ]
    if max(shares) <= MAX_SHARE_LOST:
        return None
    return (
        f"{name}: this tokenizer loses text of the corpus: {_counts(loss)}; use a lossless "
        "tokenizer such as a byte-level BPE (`kind: train_tokenizer` trains one), or set "
        "`lossy: allow` to train on the remaining text"
    )


def remarks_on(loss: TextLoss, name: str) -> tuple[str, ...]:
    """Warnings about the losses."""
    remarks = []
    if loss.lost or loss.never_kept or loss.num_unknown:
        remarks.append(f"{name}: this tokenizer loses text of the corpus: {_counts(loss)}")
    if loss.rewritten:
        remarks.append(
            f"{name}: this tokenizer normalizes text to another canonical form of Unicode: "
            f"{loss.rewritten:,} of {loss.num_compared:,} compared characters; the text is "
            "equivalent"
        )
    return tuple(remarks)


def _counts(loss: TextLoss) -> str:
    parts = []
    if loss.lost:
        parts.append(_share(loss.lost, loss.num_compared, "compared characters"))
    if loss.never_kept:
        parts.append(
            _share(loss.never_kept, loss.num_chars, "characters of the corpus") + " are always lost"
        )
    if loss.num_unknown:
        parts.append(f"{loss.num_unknown:,} ids are unknown tokens")
    examples = "; ".join(map(str, loss.examples[:3]))
    return "; ".join(parts) + (f" (for example {examples})" if examples else "")


def _share(lost: dict[str, int], of: int, what: str) -> str:
    by_number = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in by_number)
    total = sum(lost.values())
    return f"{total:,} of {of:,} {what} ({100 * total / max(1, of):.2g} %: {kinds})"


def _key(chunk: TextChunk) -> tuple[object, ...]:
    return chunk.text, chunk.start, *chunk.place


def _apart(chunks: Sequence[TextChunk]) -> Iterator[TextChunk]:
    """The chunks in the order of their places, without overlaps."""
    last: TextChunk | None = None
    for chunk in sorted(chunks, key=lambda it: (it.place, it.start, -len(it.text))):
        known = 0
        if last is not None and last.place == chunk.place:
            known = max(0, last.end - chunk.start)
        if known >= len(chunk.text):
            continue
        if known:
            chunk = chunk.part(known, len(chunk.text))
        last = chunk
        yield chunk


def _whole_words(chunk: TextChunk) -> TextChunk:
    """The chunk without partial words at ends inside the document."""
    text, start, end = chunk.text, 0, len(chunk.text)
    if not chunk.begins:
        start = end - len(text.lstrip()) if text[:1].isspace() else len(text.split(maxsplit=1)[0])
    rest = text[start:]
    if not chunk.ends and rest and not rest[-1].isspace():
        end -= len(rest.rsplit(maxsplit=1)[-1])
    return chunk.part(start, end)


class _LostCharacters:
    """Tests each character at its first occurrence, and counts the lost ones."""

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        self._tokenizer = tokenizer
        self._kept: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, LossExample] = {}
        """By character."""

    def see(self, chunk: TextChunk) -> None:
        """Count the lost characters in a chunk."""
        for char in sorted(set(chunk.text) - self._kept, key=chunk.text.index):
            if char not in self._examples:
                example = self._try(char, chunk)
                if example is None:
                    self._kept.add(char)
                    continue
                self._examples[char] = example
            self._counts[char] += chunk.text.count(char)

    def by_kind(self) -> dict[str, int]:
        """Number of lost characters by kind."""
        kinds: Counter[str] = Counter()
        for char, number in self._counts.items():
            kinds[self._examples[char].kind] += number
        return dict(kinds)

    def examples(self) -> list[LossExample]:
        """One example per lost character, the most frequent first."""
        return [self._examples[char] for char, _ in self._counts.most_common()]

    def _try(self, char: str, chunk: TextChunk) -> LossExample | None:
        """An example of its loss, if it is lost both in context and alone; else None."""
        place = chunk.text.index(char)
        start = max(0, place - AROUND_CHARS)
        around = chunk.text[start : place + AROUND_CHARS + 1]
        decoded, alone = self._tokenizer.decode(self._tokenizer.encode([around, char]))
        unknown = self._tokenizer.unknown_text
        if _has(decoded, char, unknown) or _has(alone, char, unknown):
            return None
        excerpt = TextChunk(around, chunk.document, chunk.start + start)
        found = compare(excerpt, decoded, unknown).examples
        kind = compare(TextChunk(char), alone, unknown).examples
        if not found or not kind:
            return None
        return found[0].model_copy(
            update={
                "kind": kind[0].kind,
                "character": chunk.start + place + 1,
                "text": around,
                "became": decoded,
            }
        )


def _has(decoded: str, char: str, unknown_text: str) -> bool:
    parts = set(unicodedata.normalize("NFD", char))
    text = decoded.replace(unknown_text, "") if unknown_text else decoded
    return parts <= set(unicodedata.normalize("NFD", text))
