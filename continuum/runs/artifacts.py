"""The results of stages: typed, hashed, and independent of absolute paths.

A stage returns an artifact that points to files below its run folder. Publishing hashes those
files; the record (`artifact.json`, or `manifest.json` of a training checkpoint) holds the fields,
the list of files and one digest. Reading makes the path absolute again, so an experiment folder can
be moved or copied.
"""

import math
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from continuum.formatting import plural
from continuum.runs.files import FileDigest
from continuum.runs.redaction import without_credentials
from continuum.runs.text_records import Overlap, Shares, SourceCounts, Split, TextCounts, TextLoss
from continuum.runs.tied_embeddings import tied_on_hub


class SealedRecords(BaseModel):
    """The records beside `artifact.json` when it was written, which seals them.

    A checkpoint may have been deleted since, but not added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[FileDigest, ...]
    """For `attempts.jsonl`, the bytes that it had then."""
    checkpoints: dict[str, str]
    """The seal of each checkpoint's manifest, by folder name."""


class Artifact(BaseModel):
    """Files with a meaning: `path` is the folder that holds them, the rest is their record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noun: ClassVar[str] = "artifact"
    """Its name in messages and in the lineage."""
    only_in_manifest: ClassVar[frozenset[str]] = frozenset()
    """Fields of `manifest.json` that `artifact.json` does not repeat."""

    path: Path
    files: tuple[FileDigest, ...] = ()
    """Filled when the artifact is published."""
    digest: str = ""
    """SHA-256 over the files; filled when the artifact is published."""
    seal: str | None = Field(None, exclude=True)
    """Seal of the document it was read from; None before, and for earlier releases."""
    records: SealedRecords | None = Field(None, exclude=True)
    """The records that this document seals, if any."""

    def view(self, expected: type["Artifact"]) -> "Artifact | None":
        """This artifact as `expected`, or None if it cannot be used as that."""
        return self if isinstance(self, expected) else None

    def summary(self) -> str:
        """A short description for tables."""
        return plural(sum(file.size_bytes for file in self.files), "byte")


ArtifactT = TypeVar("ArtifactT", bound=Artifact)
ARTIFACT_TYPES: dict[str, type[Artifact]] = {}


def artifact_type(cls: type[ArtifactT]) -> type[ArtifactT]:
    """Register a class under the name that records use; a decorator."""
    ARTIFACT_TYPES[cls.__name__] = cls
    return cls


class CorpusItem(BaseModel):
    """One source file of a corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Path relative to the folder of the corpus."""
    source: Annotated[str, AfterValidator(without_credentials)]
    """The source in the spec: the URL without credentials, the name of the file, or the Python
    file."""
    size_bytes: int
    sha256: str
    format: str
    """`txt`, `md`, `py` (the whole file is one document) or `jsonl` (one document a line)."""
    compression: str = "none"
    encoding: str = "utf-8"
    text_field: str | None = None
    """For `jsonl`: the key whose value is the text, or a path of keys joined by dots."""
    missing: Literal["error", "skip"] = "error"
    """For `jsonl`: what to do with a line whose text is null or missing."""
    newlines: Literal["unix", "keep"] = "keep"
    """`unix` reads CRLF and a lone CR as `\\n`. The default is that of earlier releases."""
    counts: TextCounts | None = None
    """None in records of earlier releases."""


class Texts(Artifact):
    """Texts, tokenized or not."""

    noun: ClassVar[str] = "corpus or tokenized dataset"


@artifact_type
class Corpus(Texts):
    """Texts that are not tokenized."""

    noun: ClassVar[str] = "corpus"

    items: tuple[CorpusItem, ...]

    @property
    def size_bytes(self) -> int:
        """Size of the source files, before decompression."""
        return sum(item.size_bytes for item in self.items)

    @property
    def counts(self) -> TextCounts | None:
        """Sum over all files; None if one of them was not counted."""
        known = [item.counts for item in self.items if item.counts is not None]
        return sum(known, TextCounts()) if len(known) == len(self.items) else None

    def summary(self) -> str:
        files = f"{plural(len(self.items), 'file')}, {plural(self.size_bytes, 'byte')}"
        return f"{files}, {self.counts.summary()}" if self.counts is not None else files


VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model")
"""Files that decide the tokens; the first that exists is used."""
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""Files that decide what a tokenizer does; they are part of the identity of an import."""
CARRIED_FILES = ("vocab.*", "merges.txt", "chat_template.jinja")
"""Other files that `transformers` reads: vocabularies again, and the chat template."""


def tokenizer_files(names: Iterable[str]) -> list[str]:
    """The names that belong to a tokenizer, sorted."""
    own = (*TOKENIZER_FILES, *CARRIED_FILES)
    return sorted(name for name in names if any(fnmatchcase(name, it) for it in own))


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files to a folder; existing files are kept."""
    target.mkdir(exist_ok=True)
    for name in tokenizer_files(path.name for path in source.iterdir() if path.is_file()):
        if not (target / name).exists():
            shutil.copyfile(source / name, target / name)


@artifact_type
class TokenizerFiles(Artifact):
    """A tokenizer that LitGPT's `Tokenizer` loads from `path`."""

    noun: ClassVar[str] = "tokenizer"

    num_ids: int
    """The largest token id it can produce plus one, added tokens included."""
    vocabulary_digest: str
    """SHA-256 of `tokenizer.json` (or `tokenizer.model`): equal digests give equal tokens."""
    bos_id: int | None = None
    eos_id: int | None = None
    repo: str | None = None
    commit: str | None = None
    source: str | None = None
    """The folder it was imported from, as in the spec."""
    bos_token: str | None = None
    """The text of the BOS token; None if there is none, and for earlier releases."""
    eos_token: str | None = None
    adds_bos: bool | None = None
    """Whether the tokenizer itself starts every text with the BOS; None if unknown."""
    remarks: tuple[str, ...] = ()
    """Unusual properties of the files; each continues a sentence that starts with the label."""

    @property
    def label(self) -> str:
        """Its name in messages: the repository, the imported folder, or the run."""
        made = f"runs/{self.path.parent.name}" if self.path.name == "output" else str(self.path)
        return self.repo or self.source or made

    @property
    def warnings(self) -> tuple[str, ...]:
        """The remarks as warnings."""
        return self.warn_of(self.remarks)

    def warn_of(self, remarks: tuple[str, ...]) -> tuple[str, ...]:
        """Remarks as warnings about this tokenizer."""
        return tuple(f"{self.label}: {remark}" for remark in remarks)

    def summary(self) -> str:
        return f"{self.num_ids:,} ids"


DOCUMENTS = "documents"
"""Folder of a dataset that lists its documents: their digests and where their tokens are."""


@artifact_type
class TokenizedDataset(Texts):
    """Token chunks in litdata's `TokensLoader` format: `path/train`, `path/validation`.

    `path/tokenizer` holds the tokenizer that made them.
    """

    noun: ClassVar[str] = "tokenized dataset"

    train: Split
    validation: Split | None = None
    dtype: str
    """`uint16` where every id fits, else `int32`."""
    num_ids: int
    vocabulary_digest: str
    document: str
    """`bos`, `eos`, `both` or `none`: the special tokens around each document."""
    backend: str
    """The library that made the tokens: `gigatoken` or `tokenizers`."""
    sources: tuple[SourceCounts, ...] | None = None
    """By source and split, in the order of the corpora; None for earlier releases."""
    shares: Shares | None = None
    """How a `fraction` was split; None if the spec names the validation texts, if there is no
    validation split, and for earlier releases."""
    loss: TextLoss | None = None
    """Text that the tokens do not keep; None if it was not checked."""
    overlap: Overlap | None = None
    """Between the splits; None if it was not checked, or there is no validation split."""

    @property
    def documents_dir(self) -> Path:
        """The digests of its documents, see `continuum.text.documents`; earlier releases wrote
        none."""
        return self.path / DOCUMENTS

    def bytes_per_token(self, split: str) -> float | None:
        """UTF-8 bytes of text per token of a split; None if they were not counted."""
        counts = [it for it in self.sources or () if it.split == split]
        num_tokens = sum(it.num_tokens for it in counts)
        return sum(it.size_bytes for it in counts) / num_tokens if num_tokens else None

    def leaks(self) -> str | None:
        """A warning about documents in both splits; None if there are none, or it is unknown."""
        if self.overlap is None or self.validation is None or not self.overlap.num_documents:
            return None
        return self.overlap.describe(self.validation.num_documents)

    def summary(self) -> str:
        ratio = self.bytes_per_token("train")
        density = f", {ratio:.2f} bytes per token" if ratio is not None else ""
        repeats = self.train.num_repeats
        repeated = f", {repeats:,} of them repeat earlier ones" if repeats else ""
        documents = f" of {plural(self.train.num_documents, 'document')}{repeated}{density}"
        validation = f" + {self.validation.num_tokens:,} validation" if self.validation else ""
        validation += f" ({self.shares})" if self.shares else ""
        leaked = self.overlap.num_documents if self.overlap else 0
        leak = f" ({leaked:,} of its documents are also training documents)" if leaked else ""
        return f"{self.train.num_tokens:,} tokens{documents}{validation}{leak}"


class DataPosition(BaseModel):
    """The position of a training in a dataset: what it reads next, and the passes so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    """Seed of the order of the blocks."""
    sequence_length: int
    epoch: int
    """Starts at zero."""
    blocks_read: int
    """In this epoch, in its order."""
    passes: float
    """Passes over the dataset through the whole ancestry, in any order."""


FINAL, BEST = "final", "best"
"""How a reference selects a checkpoint of a run: its last, and that with the lowest metric."""
VALIDATION_LOSS = "val_loss"
"""The metric of `best` unless another is named."""
COUNTS = (
    "step",
    "tokens_seen",
    "tokens_total",
    "tokens_total_known",
    "skipped_steps",
    "skipped_tokens",
)


WEIGHTS_FILE, CONFIG_FILE = "lit_model.pth", "model_config.yaml"
SHARDS_DIR = "shards"
"""Has the tensors of a sharded checkpoint, by flat names, instead of `WEIGHTS_FILE`."""


class Checkpoint(Artifact):
    """A model in LitGPT's layout: `lit_model.pth`, `model_config.yaml`, the tokenizer's files."""

    noun: ClassVar[str] = "checkpoint"

    step: int = 0
    tokens_seen: int = 0
    """Training tokens of the stage (a `resume` also counts those of its parent)."""
    tokens_total: int = 0
    """Training tokens through the whole ancestry, as far as known."""
    tokens_total_known: bool = True
    """False if there may be more: the training of imported weights is unknown."""
    skipped_steps: int | None = None
    """Steps of the stage that were skipped (`on_nonfinite: skip`), None if unknown."""
    skipped_tokens: int | None = None
    """Tokens of those steps, which do not count as training tokens."""
    vocabulary_digest: str | None = None
    """Of the tokenizer; None if the checkpoint came without one."""
    model_config_fields: dict[str, Any]
    data_read: dict[str, DataPosition] | None = None
    """The position in each dataset, by its digest; None if unknown, as for imported weights and
    earlier releases."""
    tied: bool | None = None
    """Whether embedding and output layer share one tensor, which LitGPT's `Config` does not say;
    None for earlier releases."""

    @property
    def is_tied(self) -> bool:
        """Whether to train one tensor for both; earlier releases trained two in any case."""
        return bool(self.tied)

    @property
    def has_known_total(self) -> bool:
        """Whether `tokens_total` is complete; earlier releases recorded 0 for imported weights."""
        return self.tokens_total_known and (self.tokens_total > 0 or self.step > 0)

    @property
    def total_text(self) -> str:
        """`tokens_total` as text."""
        if self.has_known_total:
            return f"{self.tokens_total:,} tokens"
        return f"at least {self.tokens_total:,} tokens" if self.tokens_total else "unknown tokens"


@artifact_type
class TrainingCheckpoint(Checkpoint):
    """Full training state: weights, optimizer, counters, position in the data, RNG.

    Its record is `manifest.json`; `artifact.json` of a finished run repeats a part of it.
    """

    noun: ClassVar[str] = "training checkpoint"
    only_in_manifest: ClassVar[frozenset[str]] = frozenset(
        {"skipped_in_a_row", "world_size", "micro_batch_size", "strategy", "parent"}
        | {"resolved", "numerics"}
    )

    metrics: dict[str, float] = {}
    """The last losses and the best so far, by name; see `record_best`."""
    skipped_in_a_row: int = 0
    """Steps skipped since the last step that was taken."""
    world_size: int = 1
    micro_batch_size: int = 1
    strategy: str = "single"
    parent: str | None = None
    """Digest of the checkpoint or weights the stage started from; None for a new model."""
    resolved: dict[str, Any] | None = None
    """Values chosen for `auto` in the attempt that wrote it; None for earlier releases."""
    numerics: dict[str, Any] | None = None
    """Libraries, CPU, threads and environment of that attempt; None for earlier releases."""

    def summary(self) -> str:
        shown = {name: value for name, value in self.metrics.items() if "/" not in name}
        losses = ", ".join(f"{name} {value:.3f}" for name, value in sorted(shown.items()))
        skipped = f", {plural(self.skipped_steps, 'step')} skipped" if self.skipped_steps else ""
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
    """Set if the folder also holds a complete tokenizer."""

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
        """Weights whose training is unknown; `origin` is their `repo` and `commit`."""
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
        """As above; untrained weights of earlier releases are as on the Hub."""
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
        return f"{self.total_text} in its ancestry"


class Score(BaseModel):
    """How well one model predicts one text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """The model's reference in the spec."""
    model_digest: str
    tokens_total: int
    """Training tokens of the model, as far as known."""
    text: str
    """The reference of the dataset or corpus."""
    text_digest: str
    split: str
    """`train` or `validation`; `all` for a corpus."""
    vocabulary_digest: str
    """Of the tokenizer: losses per token of different tokenizers cannot be compared."""
    sequence_length: int
    num_sequences: int
    num_tokens: int
    """Predicted tokens."""
    num_bytes: int
    """UTF-8 bytes of text behind them; special tokens have none."""
    loss: float
    """Mean cross-entropy in nats per predicted token."""
    standard_error: float | None
    """Of the loss over sequences; None for a single one."""
    accuracy: float
    """Share of tokens that were the most likely one."""

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss) if self.loss < MAX_EXPONENT else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable across tokenizers; None if no predicted token has text."""
        bits = self.loss * self.num_tokens / math.log(2)
        return bits / self.num_bytes if self.num_bytes else None

    def __str__(self) -> str:
        bits = "" if self.bits_per_byte is None else f", {self.bits_per_byte:.4f} bits per byte"
        error = "" if self.standard_error is None else f" ± {self.standard_error:.4f}"
        return (
            f"{self.model} on {self.text}: loss {self.loss:.4f}{error}, perplexity "
            f"{self.perplexity:,.2f}{bits}, accuracy {self.accuracy:.1%} "
            f"({self.num_tokens:,} tokens)"
        )


MAX_EXPONENT = 700.0
"""`math.exp` of more overflows."""


@artifact_type
class Evaluation(Artifact):
    """Scores of models on texts."""

    noun: ClassVar[str] = "evaluation"

    scores: tuple[Score, ...]
    """For each model, in the order of the spec, each text."""
    precision: str
    """In which the models computed, as named by Lightning Fabric."""

    def summary(self) -> str:
        models = {score.model for score in self.scores}
        texts = {score.text for score in self.scores}
        found = f"{plural(len(models), 'model')} on {plural(len(texts), 'text')}"
        rated = [(it.bits_per_byte, it) for it in self.scores if it.bits_per_byte is not None]
        if len(texts) > 1 or not rated:
            return found
        bits, best = min(rated, key=lambda pair: pair[0])
        return f"{found}, best {best.model}: {bits:.3f} bits per byte, loss {best.loss:.3f}"


_VALUE, _STEP = "best/", "best_step/"


def record_best(
    metrics: dict[str, float], metric: str, step: int, value: float | None = None
) -> bool:
    """Record this step if its `metric` is finite and the lowest so far; return whether it is.

    The two numbers (`best/val_loss`, `best_step/val_loss`) are part of the training state, of each
    checkpoint's manifest and of the artifact, so recovery, retention and `@best` agree. Of equal
    values the earliest stays the best.

    Args:
        value: The value at that step; by default the one in `metrics`.
    """
    value = metrics[metric] if value is None else value
    if not math.isfinite(value) or value >= metrics.get(_VALUE + metric, math.inf):
        return False
    metrics |= {_VALUE + metric: value, _STEP + metric: float(step)}
    return True


def best_of(rows: Iterable[Mapping[str, Any]], metric: str) -> tuple[float, int] | None:
    """The lowest value in the rows of metrics.jsonl and its step, for runs that recorded no best.

    An evaluation before the first step is ignored: it measures the weights that the stage started
    from.
    """
    rated = [(row[metric], row["step"]) for row in rows if row.get(metric) is not None]
    return min((it for it in rated if it[1] > 0), default=None)


def best_step(metrics: Mapping[str, float], metric: str) -> int | None:
    """The recorded best step by this metric; None if there is none."""
    step = metrics.get(_STEP + metric)
    return None if step is None else int(step)
