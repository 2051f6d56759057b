"""What records say of texts: how many, how they were divided, what was lost of them."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class TextCounts(BaseModel):
    """What the files of a corpus hold, counted when they were checked, as the text is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int = 0
    """Documents, empty ones included; lines that were skipped are none."""
    num_empty: int = 0
    """Documents without a character."""
    num_skipped: int = 0
    """JSON lines without a text (`missing: skip`)."""
    num_chars: int = 0
    size_bytes: int = 0
    """Bytes of the text in UTF-8, without what JSON or a compression adds."""
    num_crlf: int = 0
    """CRLF line ends in the files' text; each is read as one `\\n` unless they are kept."""
    num_cr: int = 0
    """Lone CR characters in the files' text, likewise."""

    def __add__(self, other: "TextCounts") -> "TextCounts":
        mine, others = self.model_dump(), other.model_dump()
        return TextCounts(**{name: value + others[name] for name, value in mine.items()})

    def summary(self) -> str:
        """A few words for tables."""
        parts = [f"{self.num_documents:,} document(s)"]
        parts += [f"{self.num_empty:,} empty"] if self.num_empty else []
        parts += [f"{self.num_skipped:,} skipped"] if self.num_skipped else []
        parts += [f"{self.num_chars:,} characters"]
        parts += [f"{self.num_crlf:,} CRLF"] if self.num_crlf else []
        parts += [f"{self.num_cr:,} lone CR"] if self.num_cr else []
        return ", ".join(parts)


class Split(BaseModel):
    """The tokens of one split of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_tokens: int
    num_documents: int
    """Those that are not empty; a divided one counts on both sides."""
    num_repeats: int | None = None
    """Documents whose text an earlier one of the split has, word for word; None if not counted."""
    num_chars: int | None = None
    """Of the text; None where that is not known, as of an earlier release."""
    chunk_tokens: tuple[int, ...]
    """Tokens of each litdata chunk; a block never spans two chunks."""

    def num_blocks(self, sequence_length: int) -> int:
        """Blocks of `sequence_length + 1` tokens (LitGPT's: inputs and shifted targets)."""
        return sum(tokens // (sequence_length + 1) for tokens in self.chunk_tokens)


SplitMode = Literal["documents", "ends"]
"""What of a corpus validates: whole documents, or the end of each."""


class Shares(BaseModel):
    """What a `fraction` gave to validation, as shares of both sides together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: float
    mode: SplitMode
    documents: float
    characters: float
    tokens: float

    @classmethod
    def between(cls, splits: Mapping[Any, Split], *, asked: float, mode: SplitMode) -> "Shares":
        """The shares of a division; characters of both sides are known."""
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
    """What one split holds of one source of a corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    split: str
    num_documents: int
    num_chars: int
    size_bytes: int
    """Of the text as UTF-8."""
    num_tokens: int
    """Special tokens at the documents' ends included."""
    num_unknown: int
    """Ids that stand for text outside the vocabulary."""


class LeakedDocument(BaseModel):
    """A document that validates and trains: where it is, on each side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: str
    training: str

    def __str__(self) -> str:
        is_once = self.validation == self.training
        return self.validation + ("" if is_once else f" (in training: {self.training})")


class Overlap(BaseModel):
    """Validation documents whose exact text is that of a training document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int
    examples: tuple[LeakedDocument, ...] = ()

    def describe(self, num_validation: int, of: str = "") -> str:
        """What is wrong, in a sentence without its end; the training documents may be of another
        dataset."""
        owner = f" of {of}" if of else ""
        return (
            f"{self.num_documents:,} of {num_validation:,} validation document(s) are training "
            f"documents{owner} too, word for word: {'; '.join(map(str, self.examples))}"
        )


class LossExample(BaseModel):
    """A place where a text does not come back from its tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """`line ends`, `spaces and tabs`, `capital letters`, `unknown characters`, ..."""
    source: str
    document: int
    """Which of its source, from 1."""
    character: int
    """Which of the document, from 1."""
    text: str
    became: str
    """What the tokens say there; empty where that is not told apart."""

    def __str__(self) -> str:
        place = f"{self.source}, document {self.document:,}, character {self.character:,}"
        became = f" became {self.became!r}" if self.became else ""
        return f"{self.kind} in {place}: {self.text!r}{became}"


class TextLoss(BaseModel):
    """What the tokens of a corpus do not say of its text, and how that was looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_chars: int
    """Characters of the corpus."""
    num_unknown: int | None = None
    """Unknown ids among the tokens, without those that the text itself writes; None if the
    tokenizer has no such id."""
    never_kept: dict[str, int] = {}
    """Characters of the whole corpus that the tokenizer gives back nowhere, by kind."""
    num_compared: int = 0
    """Characters that were decoded again and compared."""
    lost: dict[str, int] = {}
    """Of those, characters that did not come back, by kind."""
    rewritten: int = 0
    """Of those, characters that came back in another canonical form of Unicode, the same text."""
    examples: tuple[LossExample, ...] = ()
