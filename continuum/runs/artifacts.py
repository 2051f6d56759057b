"""What stages make: typed, hashed, and found again without an absolute path.

A stage returns an artifact that points at files below its run folder. Publishing hashes those
files; the record (`artifact.json`, of a training checkpoint `manifest.json`) holds the fields, the
file list and one digest. Loading turns the path back into an absolute one, so an experiment folder
can be moved or copied.
"""

import math
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from continuum.runs.files import FileDigest
from continuum.runs.text_records import Overlap, Shares, SourceCounts, Split, TextCounts, TextLoss
from continuum.runs.tied_embeddings import tied_on_hub


class SealedRecords(BaseModel):
    """What lay beside `artifact.json` when it was written, which seals it.

    A checkpoint that was deleted since is missed by nobody; one that was not there is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[FileDigest, ...]
    """Of `attempts.jsonl` the first bytes, as many as there were."""
    checkpoints: dict[str, str]
    """The seal of each checkpoint's manifest, by the name of its folder."""


class Artifact(BaseModel):
    """Files with a meaning. `path` is the folder that holds them; everything else is its record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noun: ClassVar[str] = "artifact"
    """How people call it, in messages and in the lineage."""
    only_in_manifest: ClassVar[frozenset[str]] = frozenset()
    """Fields that `artifact.json` does not repeat."""

    path: Path
    files: tuple[FileDigest, ...] = ()
    """Filled when the artifact is published."""
    digest: str = ""
    """SHA-256 over the files; filled when the artifact is published."""
    seal: str | None = Field(None, exclude=True)
    """Of the document it was read from; None before, and in one of an earlier release."""
    records: SealedRecords | None = Field(None, exclude=True)
    """The records beside that document, if it seals any."""

    def view(self, expected: type["Artifact"]) -> "Artifact | None":
        """This artifact as `expected`, or None when it holds no such thing."""
        return self if isinstance(self, expected) else None

    def summary(self) -> str:
        """A few words for tables."""
        return f"{sum(file.size_bytes for file in self.files):,} bytes"


ArtifactT = TypeVar("ArtifactT", bound=Artifact)
ARTIFACT_TYPES: dict[str, type[Artifact]] = {}


def artifact_type(cls: type[ArtifactT]) -> type[ArtifactT]:
    """Register a class so that records name it; use as a decorator."""
    ARTIFACT_TYPES[cls.__name__] = cls
    return cls


class CorpusItem(BaseModel):
    """One source file of a corpus, as kept in its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Relative to the corpus' folder."""
    source: str
    """What the spec named: the URL, the file's name, or the Python file."""
    size_bytes: int
    sha256: str
    format: str
    """`txt`, `md`, `py` (the whole file is one document) or `jsonl` (one document a line)."""
    compression: str = "none"
    encoding: str = "utf-8"
    text_field: str | None = None
    """For `jsonl`: the key whose value is the text, or a path of keys joined by dots."""
    missing: Literal["error", "skip"] = "error"
    """For `jsonl`: what becomes of a line whose text is null or not there."""
    newlines: Literal["unix", "keep"] = "keep"
    """`unix` reads CRLF and a lone CR as `\\n`. The default is what earlier releases did."""
    counts: TextCounts | None = None
    """None in a record of an earlier release."""


@artifact_type
class Corpus(Artifact):
    """Texts, not yet tokens."""

    noun: ClassVar[str] = "corpus"

    items: tuple[CorpusItem, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the kept source files, compressed ones as they are."""
        return sum(item.size_bytes for item in self.items)

    @property
    def counts(self) -> TextCounts | None:
        """Of all files; None where one of them was not counted."""
        known = [item.counts for item in self.items if item.counts is not None]
        return sum(known, TextCounts()) if len(known) == len(self.items) else None

    def summary(self) -> str:
        files = f"{len(self.items)} file(s), {self.size_bytes:,} bytes"
        return f"{files}, {self.counts.summary()}" if self.counts is not None else files


VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model")
"""Those that decide the tokens; the first that is there is used."""
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""Files that decide what a tokenizer does; those of an import are part of its identity."""
CARRIED_FILES = ("vocab.*", "merges.txt", "chat_template.jinja")
"""Others that `transformers` reads, kept beside them: vocabularies again, and a chat's format."""


def tokenizer_files(names: Iterable[str]) -> list[str]:
    """Those of the names in a folder that belong to a tokenizer, sorted."""
    own = (*TOKENIZER_FILES, *CARRIED_FILES)
    return sorted(name for name in names if any(fnmatchcase(name, it) for it in own))


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files to another folder, but for those that it has."""
    target.mkdir(exist_ok=True)
    for name in tokenizer_files(path.name for path in source.iterdir() if path.is_file()):
        if not (target / name).exists():
            shutil.copyfile(source / name, target / name)


@artifact_type
class TokenizerFiles(Artifact):
    """A tokenizer that LitGPT's `Tokenizer` loads from `path`."""

    noun: ClassVar[str] = "tokenizer"

    num_ids: int
    """One more than the largest token id it can produce, added tokens included."""
    vocabulary_digest: str
    """SHA-256 of `tokenizer.json` (or `tokenizer.model`): equal digests make equal tokens."""
    bos_id: int | None = None
    eos_id: int | None = None
    repo: str | None = None
    commit: str | None = None
    """The Hub commit the files were downloaded at."""
    source: str | None = None
    """The folder it was imported from, as the spec named it."""
    bos_token: str | None = None
    """The text of the BOS; None where there is none, and in a record of an earlier release."""
    eos_token: str | None = None
    adds_bos: bool | None = None
    """Whether the tokenizer itself begins every text with the BOS; None if that is not known."""
    remarks: tuple[str, ...] = ()
    """What is unusual about the files, in sentences that go on after the tokenizer's name."""

    @property
    def label(self) -> str:
        """What messages call it: the repository, the folder that was imported, or the run."""
        made = f"runs/{self.path.parent.name}" if self.path.name == "output" else str(self.path)
        return self.repo or self.source or made

    @property
    def warnings(self) -> tuple[str, ...]:
        """The remarks, for people."""
        return self.warn_of(self.remarks)

    def warn_of(self, remarks: tuple[str, ...]) -> tuple[str, ...]:
        """Remarks with the name that messages call the tokenizer by."""
        return tuple(f"{self.label}: {remark}" for remark in remarks)

    def summary(self) -> str:
        return f"{self.num_ids:,} ids"


DOCUMENTS = "documents"
"""The folder of a dataset that lists its documents: their digests, and where their tokens are."""


@artifact_type
class TokenizedDataset(Artifact):
    """Token chunks in litdata's `TokensLoader` format: `path/train`, `path/validation`.

    `path/tokenizer` holds the tokenizer that made them.
    """

    noun: ClassVar[str] = "tokenized dataset"

    train: Split
    validation: Split | None = None
    dtype: str
    """`uint16` where every id fits, else `int32`."""
    num_ids: int
    """One more than the largest id of the tokenizer."""
    vocabulary_digest: str
    document: str
    """`bos`, `eos`, `both` or `none`: what marks the documents' ends."""
    backend: str
    """The library that made the tokens: `gigatoken` or `tokenizers`."""
    sources: tuple[SourceCounts, ...] | None = None
    """By source and split, in the order of the corpora; None in a record of an earlier release."""
    shares: Shares | None = None
    """How a `fraction` was carried out; None where validation was named, in a dataset of an earlier
    release, and where nothing validates."""
    loss: TextLoss | None = None
    """What of the text is not in the tokens; None where nobody looked."""
    overlap: Overlap | None = None
    """Between the splits; None where nobody looked, or nothing validates."""

    @property
    def documents_dir(self) -> Path:
        """The digests of its documents, see `continuum.text.documents`; not there in a dataset of
        an earlier release."""
        return self.path / DOCUMENTS

    def bytes_per_token(self, split: str) -> float | None:
        """UTF-8 bytes of text for each token of a split; None where they were not counted."""
        counts = [it for it in self.sources or () if it.split == split]
        num_tokens = sum(it.num_tokens for it in counts)
        return sum(it.size_bytes for it in counts) / num_tokens if num_tokens else None

    def leaks(self) -> str | None:
        """What validates although it trains, in words; None if nothing is known to."""
        if self.overlap is None or self.validation is None or not self.overlap.num_documents:
            return None
        return self.overlap.describe(self.validation.num_documents)

    def summary(self) -> str:
        ratio = self.bytes_per_token("train")
        density = f", {ratio:.2f} bytes per token" if ratio is not None else ""
        repeats = self.train.num_repeats
        repeated = f", {repeats:,} of them repeat earlier ones" if repeats else ""
        documents = f" of {self.train.num_documents:,} document(s){repeated}{density}"
        validation = f" + {self.validation.num_tokens:,} validation" if self.validation else ""
        validation += f" ({self.shares})" if self.shares else ""
        leaked = self.overlap.num_documents if self.overlap else 0
        doubt = f" ({leaked:,} of its documents train too)" if leaked else ""
        return f"{self.train.num_tokens:,} tokens{documents}{validation}{doubt}"


class DataPosition(BaseModel):
    """Where training stands in a dataset: what it reads next, and how often it has read all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Of the order of the blocks."""
    sequence_length: int
    epoch: int
    """Counted from zero."""
    blocks_read: int
    """Of this epoch, in its order."""
    passes: float
    """Over the dataset through the whole ancestry, in whatever orders."""


COUNTS = (
    "step",
    "tokens_seen",
    "tokens_total",
    "tokens_total_known",
    "skipped_steps",
    "skipped_tokens",
)
"""Fields of a checkpoint that count what the model was trained on."""


class Checkpoint(Artifact):
    """A model in LitGPT's layout: `lit_model.pth`, `model_config.yaml`, the tokenizer's files."""

    noun: ClassVar[str] = "checkpoint"

    step: int = 0
    """Optimizer steps of the stage that made it."""
    tokens_seen: int = 0
    """Training tokens of the stage (a `resume` counts its parent's too)."""
    tokens_total: int = 0
    """Training tokens through the whole ancestry, as far as it is known."""
    tokens_total_known: bool = True
    """False if there may be more: how long weights were trained that were made elsewhere, nobody
    says."""
    skipped_steps: int | None = None
    """Steps of the stage that were not taken (`on_nonfinite: skip`), None if that is not known."""
    skipped_tokens: int | None = None
    """Tokens of those steps, which are no training tokens."""
    vocabulary_digest: str | None = None
    """The tokenizer's; None when the checkpoint came without one."""
    model_config_fields: dict[str, Any]
    """LitGPT's `Config` as in `model_config.yaml`."""
    data_read: dict[str, DataPosition] | None = None
    """Where its training stands in each dataset, by the dataset's digest; None where that is not
    known, as of weights made elsewhere or by an earlier release."""
    tied: bool | None = None
    """Whether embedding and output layer are one tensor, which LitGPT's `Config` does not say;
    None in a record of an earlier release."""

    @property
    def is_tied(self) -> bool:
        """Whether to go on with one tensor for both; earlier releases trained two of any model."""
        return bool(self.tied)

    @property
    def has_known_total(self) -> bool:
        """Whether `tokens_total` is all; weights an earlier release took in say 0 and mean this."""
        return self.tokens_total_known and (self.tokens_total > 0 or self.step > 0)

    @property
    def total_words(self) -> str:
        """`tokens_total` for people."""
        if self.has_known_total:
            return f"{self.tokens_total:,} tokens"
        return f"at least {self.tokens_total:,} tokens" if self.tokens_total else "unknown tokens"


@artifact_type
class TrainingCheckpoint(Checkpoint):
    """Full training state: weights, optimizer, counters, position in the data, RNG.

    Its record is `manifest.json`, of which a finished run's `artifact.json` repeats a part.
    """

    noun: ClassVar[str] = "training checkpoint"
    only_in_manifest: ClassVar[frozenset[str]] = frozenset(
        {"skipped_in_a_row", "world_size", "micro_batch_size", "strategy", "parent"}
        | {"resolved", "numerics"}
    )

    metrics: dict[str, float] = {}
    """The last losses, by name, and the best so far; see `record_best`."""
    skipped_in_a_row: int = 0
    """Steps that were skipped since the last that was taken."""
    world_size: int = 1
    """Processes that trained it."""
    micro_batch_size: int = 1
    strategy: str = "single"
    parent: str | None = None
    """Digest of the checkpoint or weights the stage began from; None for a fresh model."""
    resolved: dict[str, Any] | None = None
    """What `auto` became in the attempt that wrote it; None in one of an earlier release."""
    numerics: dict[str, Any] | None = None
    """Libraries, processor, threads and environment of that attempt; None of an earlier release."""

    def summary(self) -> str:
        shown = {name: value for name, value in self.metrics.items() if "/" not in name}
        losses = ", ".join(f"{name} {value:.3f}" for name, value in sorted(shown.items()))
        skipped = f", {self.skipped_steps:,} steps skipped" if self.skipped_steps else ""
        return f"step {self.step:,}, {self.tokens_seen:,} tokens{skipped}" + (
            f", {losses}" if losses else ""
        )


@artifact_type
class ModelWeights(Checkpoint):
    """Weights only."""

    noun: ClassVar[str] = "model weights"

    repo: str | None = None
    commit: str | None = None
    tokenizer: TokenizerFiles | None = None
    """Set when the folder holds a whole tokenizer too."""

    @classmethod
    def from_elsewhere(
        cls,
        folder: Path,
        fields: dict[str, Any],
        tokenizer: TokenizerFiles | None,
        *,
        tied: bool,
        **origin: str,
    ) -> "ModelWeights":
        """Weights whose training is not known; `origin` is their `repo` and `commit`."""
        return cls(
            path=folder,
            tokenizer=tokenizer,
            vocabulary_digest=tokenizer.vocabulary_digest if tokenizer is not None else None,
            model_config_fields=fields,
            tokens_total_known=False,
            tied=tied,
            **origin,
        )

    @property
    def is_tied(self) -> bool:
        """As above; weights of an earlier release that were never trained are as on the Hub."""
        if self.tied is None and not self.step:
            return tied_on_hub(str(self.model_config_fields["name"]), self.path)
        return bool(self.tied)

    def view(self, expected: type[Artifact]) -> Artifact | None:
        if expected is TokenizerFiles and self.tokenizer is not None:
            return self.tokenizer.model_copy(
                update={"path": self.path, "digest": self.digest, "files": self.files}
            )
        return super().view(expected)

    def summary(self) -> str:
        return f"{self.total_words} in its ancestry"


_VALUE, _STEP = "best/", "best_step/"


def record_best(
    metrics: dict[str, float], metric: str, step: int, value: float | None = None
) -> bool:
    """Record this step if its `metric` is finite and below all before; return whether it is.

    The two numbers (`best/val_loss`, `best_step/val_loss`) are part of the training state, of each
    checkpoint's manifest and of the artifact: recovery, retention and `@best` read one answer. Of
    equal values the earliest stays the best.

    Args:
        value: Of the metric at that step; by default that among the metrics.
    """
    value = metrics[metric] if value is None else value
    if not math.isfinite(value) or value >= metrics.get(_VALUE + metric, math.inf):
        return False
    metrics |= {_VALUE + metric: value, _STEP + metric: float(step)}
    return True


def best_of(rows: Iterable[Mapping[str, Any]], metric: str) -> tuple[float, int] | None:
    """The lowest value among the rows of metrics.jsonl, and its step: the answer without a record.

    An evaluation before the first step is of what the stage began from.
    """
    rated = [(row[metric], row["step"]) for row in rows if row.get(metric) is not None]
    return min((it for it in rated if it[1] > 0), default=None)


def best_step(metrics: Mapping[str, float], metric: str) -> int | None:
    """The step recorded as the best by this metric; None when there was none."""
    step = metrics.get(_STEP + metric)
    return None if step is None else int(step)
