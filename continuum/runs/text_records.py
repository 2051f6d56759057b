"""Records about texts: counts, splits, overlap, and text that tokens lose."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from continuum.formatting import plural


class TextCounts(BaseModel):
    """Counts over the text in the files of a corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int = 0
    """Documents, including empty ones, without skipped lines."""
    num_empty: int = 0
    num_skipped: int = 0
    """JSON lines without a text (`missing: skip`)."""
    num_chars: int = 0
    size_bytes: int = 0
    """Bytes of the text in UTF-8, without JSON syntax or compression."""
    num_crlf: int = 0
    """CRLF line ends in the files' text; each is read as one `\\n` unless they are kept."""
    num_cr: int = 0
    """Lone CR characters in the files' text, likewise."""

    def __add__(self, other: "TextCounts") -> "TextCounts":
        mine, others = self.model_dump(), other.model_dump()
        return TextCounts(**{name: value + others[name] for name, value in mine.items()})

    def summary(self) -> str:
        """A short description for tables."""
        parts = [plural(self.num_documents, "document")]
        parts += [f"{self.num_empty:,} empty"] if self.num_empty else []
        parts += [f"{self.num_skipped:,} skipped"] if self.num_skipped else []
        parts += [plural(self.num_chars, "character")]
        parts += [f"{self.num_crlf:,} CRLF"] if self.num_crlf else []
        parts += [f"{self.num_cr:,} lone CR"] if self.num_cr else []
        return ", ".join(parts)


class Split(BaseModel):
    """The tokens of one split of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_tokens: int
    num_documents: int
    """Documents that are not empty; a divided one counts on both sides."""
    num_repeats: int | None = None
    """Exact repetitions of earlier documents of the split; None if not counted."""
    num_chars: int | None = None
    """Characters of the text; None if unknown, as for earlier releases."""
    chunk_tokens: tuple[int, ...]
    """Tokens of each litdata chunk; a block never spans two chunks."""

    def num_blocks(self, sequence_length: int) -> int:
        """Blocks of `sequence_length + 1` tokens (LitGPT's: inputs and shifted targets)."""
        return sum(tokens // (sequence_length + 1) for tokens in self.chunk_tokens)

    def block_start(self, number: int, sequence_length: int) -> int:
        """The first token of a block, in the tokens of all chunks."""
        width, start = sequence_length + 1, 0
        for tokens in self.chunk_tokens:
            if number < tokens // width:
                return start + number * width
            number -= tokens // width
            start += tokens
        raise IndexError(f"block {number} is beyond the split")


def spread(num_blocks: int, num_sequences: int) -> list[int]:
    """The blocks in the middle of `num_sequences` equal parts of a split, in order."""
    parts = 2 * num_sequences
    return [(2 * part + 1) * num_blocks // parts for part in range(num_sequences)]


SplitMode = Literal["documents", "ends"]
"""The validation part of a corpus: entire documents, or the end of each."""


class Shares(BaseModel):
    """The shares of the text that a `fraction` assigned to validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: float
    mode: SplitMode
    documents: float
    characters: float
    tokens: float

    @classmethod
    def between(cls, splits: Mapping[Any, Split], *, asked: float, mode: SplitMode) -> "Shares":
        """The shares of two splits whose characters are known."""
        train, validation = splits["train"], splits["validation"]
        return cls(
            asked=asked,
            mode=mode,
            documents=_share(validation.num_documents, train.num_documents),
            characters=_share(validation.num_chars or 0, train.num_chars or 0),
            tokens=_share(validation.num_tokens, train.num_tokens),
        )

    def __str__(self) -> str:
        documents = f", {self.documents:.2%} of documents"
        return (
            f"{self.characters:.2%} of characters, {self.tokens:.2%} of tokens"
            f"{': the end of each document' if self.mode == 'ends' else documents}"
        )


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part else 0.0


class SourceCounts(BaseModel):
    """Counts of one source of a corpus in one split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    split: str
    num_documents: int
    num_chars: int
    size_bytes: int
    num_tokens: int
    """Includes special tokens around documents."""
    num_unknown: int


class LeakedDocument(BaseModel):
    """A document in both splits: its place in each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: str
    training: str

    def __str__(self) -> str:
        is_once = self.validation == self.training
        return self.validation + ("" if is_once else f" (in training: {self.training})")


class Overlap(BaseModel):
    """Validation documents with exactly the text of a training document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int
    examples: tuple[LeakedDocument, ...] = ()

    def describe(self, num_validation: int, of: str = "") -> str:
        """Describe the overlap; the training documents may be `of` another dataset."""
        owner = f" of {of}" if of else ""
        return (
            f"{self.num_documents:,} of {num_validation:,} validation documents are training "
            f"documents{owner} too, word for word: {'; '.join(map(str, self.examples))}"
        )


class LossExample(BaseModel):
    """A place where decoding the tokens does not give back the text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """`line ends`, `spaces and tabs`, `capital letters`, `unknown characters`, ..."""
    source: str
    document: int
    """Number in its source, from 1."""
    character: int
    """Position in the document, from 1."""
    text: str
    became: str
    """The decoded text there; empty if it is not known."""

    def __str__(self) -> str:
        place = f"{self.source}, document {self.document:,}, character {self.character:,}"
        became = f" became {self.became!r}" if self.became else ""
        return f"{self.kind} in {place}: {self.text!r}{became}"


class TextLoss(BaseModel):
    """Text that the tokens of a corpus lose, and how it was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_chars: int
    num_unknown: int | None = None
    """Unknown ids among the tokens, except those written in the text; None if the tokenizer has
    no such id."""
    never_kept: dict[str, int] = {}
    """Characters of the corpus that the tokenizer never gives back, by kind."""
    num_compared: int = 0
    """Characters that were decoded and compared."""
    lost: dict[str, int] = {}
    """Compared characters that decoding did not give back, by kind."""
    rewritten: int = 0
    """Compared characters that came back in another Unicode normalization form."""
    examples: tuple[LossExample, ...] = ()
