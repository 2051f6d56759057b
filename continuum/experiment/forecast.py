"""What is known about a stage's result before it is made.

`Stage.forecast` returns a `Forecast`; the plan prints it and passes it to the stages below.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict

from continuum.errors import Problem
from continuum.experiment.architecture import Architecture
from continuum.experiment.fields import Ref
from continuum.runs.artifacts import Corpus
from continuum.runs.retention import Retention


@dataclass(frozen=True)
class DiskNeed:
    """The disk space that a stage needs, during and after the run."""

    item_bytes: int
    """Size of one checkpoint, or of the only output."""
    saved: range = range(1, 2)
    """Saved steps, besides the last, which is `saved.stop - 1`."""
    after: int = 0
    """The first step."""
    retention: Retention | None = None
    """Which checkpoints stay; None for a stage without checkpoints, whose output stays."""


@dataclass(frozen=True)
class Reading:
    """How training reads a dataset: its order, and its position at a step."""

    seed: int | None
    sequence_length: int
    epoch: int = 0
    blocks: float | None = 0
    """Blocks of this epoch read at `from_step`; may exceed the epoch while its size is unknown.
    None if the step is unknown."""
    per_step: float = 0
    """Blocks per optimizer step."""
    from_step: int = 0
    restarts: str = ""
    """Why the stage repeats data that an ancestor has read; empty if it does not."""

    def at(self, step: int | None) -> "Reading":
        """The position at a step; None is an unknown step."""
        blocks = self.blocks
        if self.per_step and blocks is not None:
            steps = None if step is None else step - self.from_step
            blocks = None if steps is None else blocks + self.per_step * steps
        return replace(self, blocks=blocks, per_step=0, from_step=0, restarts="")


@dataclass(frozen=True)
class Text:
    """A file of a corpus."""

    source: str
    """Its name: see `CorpusItem.source`."""
    sha256: str | None = None
    """None while its content is unknown."""

    def is_same(self, other: "Text") -> bool:
        """Compare by checksum if both are known, else by name."""
        if self.sha256 is None or other.sha256 is None:
            return self.source == other.source
        return self.sha256 == other.sha256


@dataclass(frozen=True)
class TextPart:
    """The part of a corpus that a dataset trains or validates on: all of it, or one side of a
    split."""

    corpus: Ref[Corpus]
    fraction: float | None = None
    """The share that validates: randomly drawn documents, or the end of each."""
    files: tuple[str, ...] | None = None
    """Names or globs of the texts that validate."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer that gives token ids their meaning, as far as it is known."""

    digest: str | None = None
    """See `TokenizerFiles.vocabulary_digest`."""
    stage: str = ""
    """The stage that provides it, which the planner fills in."""
    is_new: bool = False
    """Whether this experiment trains it."""

    def differs_from(self, other: "Vocabulary") -> bool | None:
        """Whether it is another tokenizer; None if that cannot be said yet."""
        if self.digest is not None and other.digest is not None:
            return self.digest != other.digest
        return False if self.stage == other.stage else None


class Facts(TypedDict, total=False):
    """What the plan reports about a stage, as far as it is known."""

    files: int
    max_ids: int
    steps: int
    """Optimizer steps of this stage only, as are the tokens, epochs and FLOPs."""
    warmup_steps: int
    tokens: int
    epochs: float
    schedule: str
    checkpoints: int
    checkpoints_kept: int
    """At the end, of those that are saved."""
    checkpoint_bytes: int
    weights_bytes: int
    disk_bytes: int
    memory_bytes: int
    """Per process."""
    flops: float
    tied_embeddings: Literal["yes", "no"]


@dataclass(frozen=True)
class Forecast:
    """What is known about a stage's result in advance; None means unknown."""

    facts: Facts = field(default_factory=Facts)
    problems: tuple[Problem, ...] = ()
    """Errors, with paths below the stage; any of them makes the run fail before it starts."""
    warnings: tuple[Problem, ...] = ()
    """Probable mistakes."""
    notes: tuple[str, ...] = ()
    """Other notes for the plan."""
    taken_files: Mapping[str, int] = field(default_factory=dict)
    """For a corpus: counts of selected local files by suffix."""
    left_files: Mapping[str, int] = field(default_factory=dict)
    """Counts of skipped files by suffix or kind."""
    max_text_bytes: int | None = None
    """For a corpus: upper bound of the bytes of text."""
    texts: tuple[Text, ...] = ()
    """For a corpus: its files, if known."""
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """For a dataset: upper bounds of the tokens in each split (`train`, `validation`)."""
    has_validation: bool | None = None
    """For a dataset: whether it has a validation split; None if unknown."""
    max_ids: int | None = None
    """For a tokenizer or a dataset: upper bound of the token ids."""
    architecture: Architecture | None = None
    has_tokenizer: bool | None = None
    """For weights that a stage may name as a tokenizer too: whether one comes with them."""
    vocabulary: Vocabulary | None = None
    """For a tokenizer, a dataset or a model; None if there is none, or nothing is known of it."""
    num_steps: int | None = None
    """For a training stage: its last optimizer step."""
    peak_lr: float | None = None
    """For a model: the highest learning rate of the stage that trained it."""
    disk: DiskNeed | None = None
    reading: Mapping[str, Reading] = field(default_factory=dict)
    """For a model: how its training reads each dataset, by the dataset's digest, or by the name of
    its stage while it does not exist."""

    def with_problems(self, problems: Iterable[Problem]) -> "Forecast":
        """A copy with further errors and warnings."""
        more = tuple(problems)
        return replace(
            self,
            problems=(*self.problems, *(it for it in more if it.severity == "error")),
            warnings=(*self.warnings, *(it for it in more if it.severity == "warning")),
        )
