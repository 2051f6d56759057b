"""A stage of an experiment: its spec, its references, and what it runs with.

A kind of stage is a subclass of `Stage` with its fields, the artifact it produces and `run()`; see
`continuum.stages` for where kinds are found. A new one touches no other file.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict

from continuum.errors import IntegrityError
from continuum.experiment.architecture import Architecture
from continuum.experiment.fields import (
    UNIT,
    LocalPath,
    Ref,
    Spec,
    canonicalize,
    cosmetic_field,
    runtime_field,
)
from continuum.experiment.seeds import complete_seeds
from continuum.problems import Problem
from continuum.runs.artifacts import Artifact, ArtifactT, Checkpoint, Corpus
from continuum.runs.events import Report, Warned
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord
from continuum.runs.retention import Retention

__all__ = [
    "UNIT",
    "DiskNeed",
    "Facts",
    "Forecast",
    "LocalPath",
    "PlanInput",
    "Problem",
    "Reading",
    "Ref",
    "Spec",
    "Stage",
    "StageContext",
    "Text",
    "TextPart",
    "canonicalize",
    "runtime_field",
]


@dataclass(frozen=True)
class DiskNeed:
    """What a stage writes into its run folder, and what of it stays."""

    item_bytes: int
    """Of one checkpoint, or of the only thing it makes."""
    saved: range = range(1, 2)
    """Steps that are saved, besides the last, which is `saved.stop - 1`."""
    after: int = 0
    """The step it begins from."""
    retention: Retention | None = None
    """Which of them stay; None for a stage that saves no checkpoints, whose output stays."""


@dataclass(frozen=True)
class Reading:
    """How a model's training reads a dataset: its order, and how far it is at a step."""

    seed: int | None
    sequence_length: int
    epoch: int = 0
    blocks: float | None = 0
    """Of this epoch, read at `from_step`; more than it has while its size is not known. None where
    it is not known which step is meant."""
    per_step: float = 0
    """Blocks that an optimizer step reads."""
    from_step: int = 0
    restarts: str = ""
    """Why the stage reads again what an ancestor read; empty when it does not."""

    def at(self, step: int | None) -> "Reading":
        """Where it stands at a step; None is one that is not known yet."""
        blocks = self.blocks
        if self.per_step and blocks is not None:
            steps = None if step is None else step - self.from_step
            blocks = None if steps is None else blocks + self.per_step * steps
        return replace(self, blocks=blocks, per_step=0, from_step=0, restarts="")


@dataclass(frozen=True)
class Text:
    """A file of a corpus."""

    source: str
    """How it is called: see `CorpusItem.source`."""
    sha256: str | None = None
    """None while its bytes are not known."""

    def is_same(self, other: "Text") -> bool:
        """By the bytes where they are known, else by the name."""
        if self.sha256 is None or other.sha256 is None:
            return self.source == other.source
        return self.sha256 == other.sha256


@dataclass(frozen=True)
class TextPart:
    """What of a corpus a dataset trains on, or validates on: all of it, or a side of a division."""

    corpus: Ref[Corpus]
    fraction: float | None = None
    """So much of it validates: documents that are drawn, or the end of each."""
    files: tuple[str, ...] | None = None
    """The texts of these names or globs validate."""


class Facts(TypedDict, total=False):
    """What the plan tells people of a stage, as far as it is known."""

    files: int
    max_ids: int
    steps: int
    """Optimizer steps of the stage alone, as are the tokens, the epochs and the FLOPs."""
    warmup_steps: int
    tokens: int
    epochs: float
    schedule: str
    checkpoints: int
    checkpoint_bytes: int
    weights_bytes: int
    disk_bytes: int
    memory_bytes: int
    """Of one process."""
    flops: float
    tied_embeddings: Literal["yes", "no"]


@dataclass(frozen=True)
class Forecast:
    """What is known of a stage's result before it is made; None means not known yet."""

    facts: Facts = field(default_factory=Facts)
    problems: tuple[Problem, ...] = ()
    """Why it cannot work, by paths below the stage; any makes the plan refuse the run."""
    warnings: tuple[Problem, ...] = ()
    """What most likely goes wrong, or was not meant."""
    notes: tuple[str, ...] = ()
    """What else the plan states, in words."""
    taken_files: Mapping[str, int] = field(default_factory=dict)
    """Of a corpus: how many local files it takes, by suffix."""
    left_files: Mapping[str, int] = field(default_factory=dict)
    """How many it met and leaves, by suffix or by what they are."""
    max_text_bytes: int | None = None
    """Of a corpus: no more bytes of text than this."""
    texts: tuple[Text, ...] = ()
    """Of a corpus: its files, as far as they are known."""
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """Of a dataset: no more tokens than this in each split (`train`, `validation`)."""
    has_validation: bool | None = None
    """Of a dataset: whether it has a validation split; None where that is not known yet."""
    max_ids: int | None = None
    """Of a tokenizer or a dataset: no more token ids than this."""
    architecture: Architecture | None = None
    num_steps: int | None = None
    """Of a training stage: the optimizer step it ends at."""
    peak_lr: float | None = None
    """Of a model: the highest learning rate of the stage that trained it."""
    disk: DiskNeed | None = None
    reading: Mapping[str, Reading] = field(default_factory=dict)
    """Of a model: how its training reads each dataset, by the dataset's digest once it exists, by
    its stage's name before."""

    def with_problems(self, problems: Iterable[Problem]) -> "Forecast":
        """This forecast with more reasons why it cannot work."""
        more = tuple(problems)
        return replace(self, problems=self.problems + more) if more else self


@dataclass(frozen=True)
class PlanInput:
    """A stage's input as the plan sees it: the stage, what it will be, what it already is."""

    stage: "Stage"
    forecast: Forecast
    artifact: Artifact | None
    recipe: Spec | None = None
    """The complete recipe, if the stage trains."""

    @property
    def texts(self) -> tuple[Text, ...]:
        """Of a corpus: its files, as far as they are known."""
        if isinstance(self.artifact, Corpus):
            return tuple(Text(item.source, item.sha256) for item in self.artifact.items)
        return self.forecast.texts

    @property
    def architecture(self) -> Architecture | None:
        """Of a model: its shape, as it is or as it will be; None while neither is known."""
        if isinstance(self.artifact, Checkpoint):
            return Architecture(self.artifact.model_config_fields, self.artifact.is_tied)
        return self.forecast.architecture


@dataclass(frozen=True)
class StageContext:
    """What `Stage.run` may use; values pulled from here never bear identity."""

    run: StageRun
    record: StageRecord
    """What was planned: seeds, recipe, pins, what to save."""
    inputs: Mapping[str, Artifact]
    report: Report
    """Tells whoever watches the run of an event."""
    should_stop: Callable[[], bool] = lambda: False
    """Whether the user asked to stop; looked at between optimizer steps."""
    prove_inputs: Callable[[], None] = lambda: None
    """Raises IntegrityError when an input was changed after it was verified."""

    @property
    def output_dir(self) -> Path:
        """Where the artifact's files go; made on first use, empty at the start of an attempt."""
        self.run.output_dir.mkdir(parents=True, exist_ok=True)
        return self.run.output_dir

    @property
    def experiment_folder(self) -> Path:
        return self.run.experiment_folder

    @property
    def seeds(self) -> Mapping[str, int]:
        """Those that the stage uses, by name: `init`, `data`, `split`."""
        return self.record.seeds or {}

    def warn(self, message: str) -> None:
        """Report a warning."""
        self.report(Warned(message))

    def check_files(self, used: Mapping[str, str]) -> None:
        """Compare the local bytes that were used, by name, with those that the plan saw.

        Raises:
            IntegrityError: they differ, and the result would bear the fingerprint of another.
        """
        planned = self.record.identity.get("files", {})
        for name in sorted(planned.keys() | used.keys()):
            if planned.get(name) != used.get(name):
                what = "added" if name not in planned else "changed" if name in used else "removed"
                raise IntegrityError(
                    f"{name} was {what} after the plan was made, so the result would not be what "
                    "was planned; run again to plan with the files as they are now"
                )

    def artifact(self, ref: Ref[ArtifactT]) -> ArtifactT:
        """The artifact a reference leads to, as the type the field asks for."""
        found = self.inputs[str(ref)].view(ref.expects)
        assert found is not None, f"{ref} was checked when the spec was loaded"
        return found  # type: ignore[return-value]  # `expects` is the field's own type argument


class Stage(Spec):
    """One step of an experiment. Subclasses add fields, `produces` and `run`."""

    kind: str
    """What the stage does: the name of a kind."""
    description: str | None = cosmetic_field(None)
    """A sentence for readers; changing it changes nothing."""

    produces: ClassVar[type[Artifact]] = Artifact
    version: ClassVar[int] = 1
    """Raised when the code of a kind starts to make something else from the same spec."""
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {}
    """For each version after the first, what it makes otherwise: the plan says so when it runs a
    finished stage again."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Names that other programs have for this kind, for who writes one of them."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Why this kind has not a field that others have, for who writes it here."""
    trains: ClassVar[bool] = False
    """Whether it needs the accelerator (or, without one, all processors)."""
    preload: ClassVar[str] = ""
    """A module that takes seconds to import: imported once for all workers of the run."""
    checks_local_inputs: ClassVar[bool] = False
    """Whether `run` gives the digests of the local bytes it uses to `StageContext.check_files`;
    of other kinds, the local files are hashed again before the result is published."""
    verify_concurrently: ClassVar[bool] = False
    """Whether it may begin while the models it reads are verified: nothing it makes is kept when
    they turn out to be damaged."""

    @property
    def own_version(self) -> int:
        """The version that counts for this stage: an earlier one where what the later ones changed
        does not concern it."""
        return self.version

    def identity_with(self, recipe: Spec | None) -> dict[str, Any]:
        """What identifies the stage beside its inputs, in the one form of all its spellings.

        Args:
            recipe: The complete recipe, if the stage trains.
        """
        return self.identity()

    @abstractmethod
    def run(self, ctx: StageContext) -> Artifact:
        """Make the artifact below `ctx.run`; heavy imports belong in here."""

    def seeded(self, defaults: Mapping[str, int]) -> "Stage":
        """This stage with each seed it uses filled in, which is the form its identity is of.

        A kind that draws random numbers has a field `seeds`, whose type holds the seeds it uses.

        Args:
            defaults: The experiment's seeds by name.
        """
        own = getattr(self, "seeds", None)
        if not isinstance(own, Spec):
            return self
        seeds = complete_seeds(own, getattr(self, "seed", None), defaults)
        return self.model_copy(update={"seed": None, "seeds": seeds})

    def used_seeds(self, recipe: Spec | None) -> dict[str, int]:
        """The seeds that decide what it makes, by name, once it is `seeded`."""
        own = getattr(self, "seeds", None)
        return own.model_dump(exclude_none=True) if isinstance(own, Spec) else {}

    def output_types(self) -> tuple[type[Artifact], ...]:
        """What the result can be used as."""
        return (self.produces,)

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        """Local files whose bytes are part of the identity, by a name that is too."""
        return {}

    def texts(self, files: Mapping[str, str | None], pins: Mapping[str, str]) -> tuple[Text, ...]:
        """The files of the corpus that it makes, as far as they are known before.

        Args:
            files: SHA-256 of its local inputs.
            pins: What the lock says its sources are.
        """
        return ()

    def training_texts(self) -> TextPart | None:
        """Texts that a dataset of this stage trains on; None where that is not known."""
        return None

    def validation_texts(self) -> TextPart | None:
        """Texts that a dataset of this stage validates on; None where there are none."""
        return None

    def unpinned(self, pins: Mapping[str, str]) -> Iterator[Problem]:
        """Sources that may change, of which neither the spec nor the lock says what they are.

        Args:
            pins: What the lock says.
        """
        return iter(())

    def pins(self, artifact: Artifact) -> dict[str, str]:
        """What each source that may move was when `artifact` was made, by how the spec names it.

        A branch of a Hub repository was a commit, a URL had a SHA-256. The lock keeps them, and
        the next `run` finds them in its context.
        """
        return {}

    def renew_pins(self) -> dict[str, str]:
        """What those sources are now; asks the network.

        Raises:
            PreflightError: a source cannot be reached.
        """
        return {}

    def problems(self, stages: Mapping[str, "Stage"]) -> Iterator[Problem]:
        """What is wrong between this stage's fields, or between it and other stages.

        `stages` holds those without mistakes: ask with `stages.get`, one referred to may be absent.
        """
        return iter(())

    def recipe(self, parents: Mapping[str, Spec | None]) -> Spec | None:
        """How the stage trains, with everything it inherits filled in; None if it does not.

        Args:
            parents: The recipes of the stages it refers to, by their names.
        """
        return None

    def observed(self, recipe: Spec | None) -> frozenset[str]:
        """Inputs that are only looked at, by reference: other bytes of them make nothing anew.

        Args:
            recipe: The stage's complete recipe, if it trains.
        """
        inherited = recipe.observed_refs() if recipe is not None else frozenset()
        made_from = {str(ref) for ref in self.refs().values()} - self.observed_refs()
        return (self.observed_refs() | inherited) - made_from

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        """What the plan can say before the stage runs, from its inputs by reference."""
        return Forecast()
