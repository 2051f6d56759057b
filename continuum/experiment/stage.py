"""A stage of an experiment: its spec, its references, and its context at run time.

A kind is a subclass of `Stage` with its fields, the artifact it produces and `run()`; see
`continuum.stages` for the registry. A new kind changes no other file.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from continuum.errors import IntegrityError, Problem
from continuum.experiment.architecture import Architecture
from continuum.experiment.fields import (
    Ref,
    Spec,
    cosmetic_field,
)
from continuum.experiment.forecast import Forecast, Text, TextPart, Vocabulary
from continuum.experiment.seeds import complete_seeds
from continuum.runs.artifacts import (
    Artifact,
    ArtifactT,
    Checkpoint,
    Corpus,
    TokenizedDataset,
    TokenizerFiles,
)
from continuum.runs.events import Report, Warned
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord


@dataclass(frozen=True)
class PlanInput:
    """A stage's input in the plan: its stage, its forecast, and its artifact if it exists."""

    stage: "Stage"
    forecast: Forecast
    artifact: Artifact | None
    recipe: Spec | None = None
    """The complete recipe, if the stage trains."""

    @property
    def texts(self) -> tuple[Text, ...]:
        """For a corpus: its files, if known."""
        if isinstance(self.artifact, Corpus):
            return tuple(Text(item.source, item.sha256) for item in self.artifact.items)
        return self.forecast.texts

    @property
    def vocabulary(self) -> Vocabulary | None:
        """For a tokenizer, a dataset or a model; None if there is none, or it is unknown."""
        if not isinstance(self.artifact, TokenizerFiles | TokenizedDataset | Checkpoint):
            return self.forecast.vocabulary
        digest = self.artifact.vocabulary_digest
        return replace(self.forecast.vocabulary or Vocabulary(), digest=digest) if digest else None

    @property
    def architecture(self) -> Architecture | None:
        """For a model: its current or future shape; None if unknown."""
        if isinstance(self.artifact, Checkpoint):
            return Architecture(self.artifact.model_config_fields, self.artifact.is_tied)
        return self.forecast.architecture


@dataclass(frozen=True)
class StageContext:
    """The context of `Stage.run`; its values are never part of the identity."""

    run: StageRun
    record: StageRecord
    """The plan: seeds, recipe, pins, what to save."""
    inputs: Mapping[str, Artifact]
    report: Report
    """Reports an event to the observers of the run."""
    should_stop: Callable[[], bool] = lambda: False
    """True if the user asked to stop; checked between optimizer steps."""
    prove_inputs: Callable[[], None] = lambda: None
    """Raises IntegrityError if an input has changed since its verification."""

    @property
    def output_dir(self) -> Path:
        """The folder for the artifact's files; created on first use, empty at the start of an
        attempt."""
        self.run.output_dir.mkdir(parents=True, exist_ok=True)
        return self.run.output_dir

    @property
    def experiment_folder(self) -> Path:
        return self.run.experiment_folder

    @property
    def seeds(self) -> Mapping[str, int]:
        """The seeds that the stage uses, by name: `init`, `data`, `split`."""
        return self.record.seeds or {}

    def warn(self, message: str) -> None:
        """Report a warning."""
        self.report(Warned(message))

    def check_files(self, used: Mapping[str, str]) -> None:
        """Compare the digests of the used local files, by name, with those in the plan.

        Raises:
            IntegrityError: they differ, so the result would have the wrong fingerprint.
        """
        planned = self.record.identity.get("files", {})
        for name in sorted(planned.keys() | used.keys()):
            if planned.get(name) != used.get(name):
                what = "added" if name not in planned else "changed" if name in used else "removed"
                raise IntegrityError(
                    f"{name} was {what} after the plan was made; run again to plan with the "
                    "current "
                    "files"
                )

    def artifact(self, ref: Ref[ArtifactT]) -> ArtifactT:
        """The artifact of a reference, as the type that the field requires."""
        found = self.inputs[str(ref)].view(ref.expects)
        assert found is not None, f"{ref} was checked when the spec was loaded"
        return found  # type: ignore[return-value]  # `expects` is the field's own type argument


class Stage(Spec):
    """One step of an experiment. Subclasses add fields, `produces` and `run`."""

    kind: str
    """The stage kind."""
    description: str | None = cosmetic_field(None)
    """A sentence for readers; it has no effect."""

    produces: ClassVar[type[Artifact]] = Artifact
    version: ClassVar[int] = 1
    """Incremented when the code of a kind changes the result for the same spec."""
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {}
    """For each version after the first, what changed in it: the plan reports this when it reruns a
    finished stage."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Names of this kind in other programs, for suggestions."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Fields of other kinds that this kind does not have, with the reason."""
    instead: ClassVar[Mapping[tuple[str, type[Artifact]], str]] = {}
    """What to do instead of naming a stage with such an output in this field."""
    trains: ClassVar[bool] = False
    """Whether it trains a model: its state is saved when it is stopped."""
    uses_accelerator: ClassVar[bool] = False
    """Whether it uses the accelerator (or, without one, all processors)."""
    preload: ClassVar[str] = ""
    """A module that takes seconds to import: imported once for all workers of the run."""
    checks_local_inputs: ClassVar[bool] = False
    """Whether `run` passes the digests of the local files it uses to `StageContext.check_files`;
    for other kinds, the files are hashed again before the result is published."""
    verify_concurrently: ClassVar[bool] = False
    """Whether it may start while its input models are verified: its result is discarded if they are
    corrupt."""

    @property
    def own_version(self) -> int:
        """The version of this stage: an earlier one if later changes do not affect it."""
        return self.version

    @abstractmethod
    def run(self, ctx: StageContext) -> Artifact:
        """Make the artifact below `ctx.run`; put heavy imports in here."""

    def seeded(self, defaults: Mapping[str, int]) -> "Stage":
        """A copy with all its seeds filled in, from which its identity is computed.

        A kind that draws random numbers has a field `seeds`, whose type contains the seeds it uses.

        Args:
            defaults: The experiment's seeds by name.
        """
        own = getattr(self, "seeds", None)
        if not isinstance(own, Spec):
            return self
        seeds = complete_seeds(own, getattr(self, "seed", None), defaults)
        return self.model_copy(update={"seed": None, "seeds": seeds})

    def used_seeds(self, recipe: Spec | None) -> dict[str, int]:
        """The seeds that affect the result, by name, once it is `seeded`."""
        own = getattr(self, "seeds", None)
        return own.model_dump(exclude_none=True) if isinstance(own, Spec) else {}

    def output_types(self) -> tuple[type[Artifact], ...]:
        """The types that the result can be used as."""
        return (self.produces,)

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        """Local files whose names and content are part of the identity."""
        return {}

    def texts(self, files: Mapping[str, str | None], pins: Mapping[str, str]) -> tuple[Text, ...]:
        """The files of the corpus that it makes, as far as they are known in advance.

        Args:
            files: SHA-256 of its local inputs.
            pins: Its sources in the lock.
        """
        return ()

    def training_texts(self) -> TextPart | None:
        """Texts that a dataset of this stage trains on; None if unknown."""
        return None

    def validation_texts(self) -> TextPart | None:
        """Texts that a dataset of this stage validates on; None if there are none."""
        return None

    def evaluated_texts(self) -> tuple[Ref[Any], ...]:
        """References of texts that it evaluates without training: an overlap with the training
        data of its models is reported."""
        return ()

    def unpinned(self, pins: Mapping[str, str]) -> Iterator[Problem]:
        """Sources that may change and are pinned neither in the spec nor in the lock.

        Args:
            pins: The pins in the lock.
        """
        return iter(())

    def pins(self, artifact: Artifact) -> dict[str, str]:
        """The resolved version of each movable source of `artifact`, by its name in the spec.

        The pin of a Hub branch is a commit, that of a URL a SHA-256. The lock stores them, and the
        next `run` finds them in its context.
        """
        return {}

    def renew_pins(self) -> dict[str, str]:
        """The current versions of those sources, from the network.

        Raises:
            PreflightError: a source cannot be reached.
        """
        return {}

    def problems(self, stages: Mapping[str, "Stage"]) -> Iterator[Problem]:
        """Errors between this stage's fields, or between it and other stages.

        `stages` only contains stages without errors: use `stages.get`, a referenced one may be
        missing.
        """
        return iter(())

    def recipe(self, parents: Mapping[str, Spec | None]) -> Spec | None:
        """The complete recipe, with inherited values filled in; None if the stage does not train.

        Args:
            parents: The recipes of the referenced stages, by name.
        """
        return None

    def observed(self, recipe: Spec | None) -> frozenset[str]:
        """References of inputs that are only observed: changing them does not rerun the stage.

        Args:
            recipe: The stage's complete recipe, if it trains.
        """
        inherited = recipe.observed_refs() if recipe is not None else frozenset()
        made_from = {str(ref) for ref in self.refs().values()} - self.observed_refs()
        return (self.observed_refs() | inherited) - made_from

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        """What is known before the stage runs, from its inputs by reference."""
        return Forecast()
