"""A stage of an experiment: its spec, its references, what it runs with, and how it is found.

A kind of stage is one file in `continuum/stages/`: a subclass of `Stage` with its fields, the
artifact it produces and `run()`. Importing the package registers them all; a new kind touches no
other file.

Identity. Every field is part of a stage's identity (and so of its fingerprint) unless it is
declared with `runtime_field` (how the work is done) or `cosmetic_field` (words for people), or is
a local path (what counts is the bytes it leads to, see `Stage.local_inputs`). A field that is None
is left out of the payload, so a later release may add an optional field without disowning old runs.
"""

import importlib
import pkgutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from continuum.architecture import Architecture
from continuum.artifacts import Artifact, ArtifactT, Checkpoint
from continuum.runs import StageRun

ROLE = "x-continuum-role"
FINAL = "final"


def runtime_field(default: Any, **kwargs: Any) -> Any:
    """A field that says how the work is done; it does not change what is made."""
    return Field(default, json_schema_extra={ROLE: "runtime"}, **kwargs)


def cosmetic_field(default: Any, **kwargs: Any) -> Any:
    """A field for human readers only."""
    return Field(default, json_schema_extra={ROLE: "cosmetic"}, **kwargs)


class Spec(BaseModel):
    """A part of the document: strict, closed and frozen."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    def identity(self) -> dict[str, Any]:
        """The fields that decide what is made, with defaults filled in and None left out."""
        payload = {}
        for name, info in type(self).model_fields.items():
            extra = info.json_schema_extra
            is_identity = not isinstance(extra, dict) or extra.get(ROLE, "identity") == "identity"
            value = _identity_of(getattr(self, name))
            if is_identity and value is not None:
                payload[info.alias or name] = value
        return payload


class LocalPath(str):
    """A path, relative to the experiment folder unless absolute.

    In YAML a relative path is relative to the file that says it; the loader passes that file's
    folder and the experiment's as validation context.
    """

    __slots__ = ()

    def resolve(self, experiment_folder: Path) -> Path:
        """The place on this machine."""
        return experiment_folder / self

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._parse,
            serialization=core_schema.to_string_ser_schema(),
            json_schema_input_schema=core_schema.str_schema(min_length=1),
        )

    @classmethod
    def _parse(cls, value: Any, info: ValidationInfo) -> "LocalPath":
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "Input should be a path")
        if not value or "\0" in value:
            raise PydanticCustomError("path_empty", "a path may not be empty or hold NUL")
        said_in = getattr(value, "said_in", None)
        folder = (info.context or {}).get("folder")
        text = Path(value).expanduser().as_posix()
        if said_in is not None and folder is not None and not Path(text).is_absolute():
            text = Path(_relative(said_in / text, folder)).as_posix()
        return cls(text)


class Ref(str, Generic[ArtifactT]):
    """The name of another stage whose artifact is an `ArtifactT`; `name@step-500` selects."""

    __slots__ = ("expects",)
    expects: type[Artifact]

    @property
    def stage(self) -> str:
        """The stage's name, without the selector."""
        return self.partition("@")[0]

    @property
    def selector(self) -> str:
        """`final`, or `step-N`."""
        return self.partition("@")[2] or FINAL

    @property
    def step(self) -> int | None:
        """The selected step; None for the final checkpoint."""
        return None if self.selector == FINAL else int(self.selector.removeprefix("step-"))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        (expects,) = get_args(source) or (Artifact,)

        def parse(value: Any) -> "Ref[ArtifactT]":
            if not isinstance(value, str):
                raise PydanticCustomError("ref_type", "Input should be the name of a stage")
            ref = cls(value)
            ref.expects = expects
            selector = ref.selector
            if selector != FINAL and not (
                selector.startswith("step-") and selector[5:].isdecimal() and int(selector[5:]) > 0
            ):
                raise PydanticCustomError(
                    "ref_selector",
                    "unknown selector '@{selector}'; use '@final' or '@step-N'",
                    {"selector": selector},
                )
            return ref

        return core_schema.no_info_plain_validator_function(
            parse,
            serialization=core_schema.to_string_ser_schema(),
            json_schema_input_schema=core_schema.str_schema(
                pattern=r"^[a-z][a-z0-9_-]*(@(final|step-[1-9][0-9]*))?$"
            ),
        )


@dataclass(frozen=True)
class Problem:
    """Something wrong with a stage that its fields' types cannot say."""

    path: tuple[str | int, ...]
    """Where, below the stage."""
    message: str
    suggestion: str | None = None


@dataclass(frozen=True)
class Forecast:
    """What is known of a stage's result before it is made; None means not known yet."""

    facts: Mapping[str, int | float | str] = field(default_factory=dict)
    """For people: optimizer steps, tokens, bytes …"""
    problems: tuple[str, ...] = ()
    """Why it cannot work; any makes the plan refuse the run."""
    warnings: tuple[str, ...] = ()
    max_text_bytes: int | None = None
    """Of a corpus: no more bytes of text than this."""
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """Of a dataset: no more tokens than this in each split (`train`, `validation`)."""
    architecture: Architecture | None = None
    num_steps: int | None = None


@dataclass(frozen=True)
class PlanInput:
    """A stage's input as the plan sees it: the stage, what it will be, what it already is."""

    stage: "Stage"
    forecast: Forecast
    artifact: Artifact | None


@dataclass(frozen=True)
class StageContext:
    """What `Stage.run` may use; values pulled from here never bear identity."""

    run: StageRun
    seed: int
    inputs: Mapping[str, Artifact]
    save_steps: tuple[int, ...]
    report: Callable[[dict[str, Any]], None]
    """Send a progress event (`{"event": …}`) to whoever watches the run."""

    @property
    def output_dir(self) -> Path:
        """Where the artifact's files go; made on first use, empty at the start of an attempt."""
        self.run.output_dir.mkdir(parents=True, exist_ok=True)
        return self.run.output_dir

    @property
    def experiment_folder(self) -> Path:
        return self.run.experiment_folder

    def artifact(self, ref: Ref[ArtifactT]) -> ArtifactT:
        """The artifact a reference leads to, as the type the field asks for."""
        found = self.inputs[str(ref)].view(ref.expects)
        assert found is not None, f"{ref} was checked when the spec was loaded"
        return found  # type: ignore[return-value]  # `expects` is the field's own type argument


class Stage(Spec):
    """One step of an experiment. Subclasses add fields, `produces` and `run`."""

    kind: str
    description: str | None = cosmetic_field(None)
    """A sentence for readers; changing it changes nothing."""

    produces: ClassVar[type[Artifact]] = Artifact
    version: ClassVar[int] = 1
    """Raised when the code of a kind starts to make something else from the same spec."""
    uses_seed: ClassVar[bool] = False
    """Whether the experiment's seed changes what is made."""
    trains: ClassVar[bool] = False
    """Whether it needs the accelerator (or, without one, all processors)."""

    @abstractmethod
    def run(self, ctx: StageContext) -> Artifact:
        """Make the artifact below `ctx.run`; heavy imports belong in here."""

    def output_types(self) -> tuple[type[Artifact], ...]:
        """What the result can be used as."""
        return (self.produces,)

    def refs(self) -> dict[tuple[str | int, ...], Ref[Any]]:
        """Every reference in the fields, by its place."""
        return dict(_find_refs(self, ()))

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        """Local files whose bytes are part of the identity, by a name that is too."""
        return {}

    def problems(self, stages: Mapping[str, "Stage"]) -> Iterator[Problem]:
        """What is wrong between this stage's fields, or between it and other stages."""
        return iter(())

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        """What the plan can say before the stage runs, from its inputs by reference."""
        return Forecast()


STAGE_KINDS: dict[str, type[Stage]] = {}


def stage_kinds() -> dict[str, type[Stage]]:
    """All kinds by name: every `Stage` subclass with a literal `kind` in `continuum.stages`."""
    if not STAGE_KINDS:
        package = importlib.import_module("continuum.stages")
        for module in pkgutil.iter_modules(package.__path__):
            _register(importlib.import_module(f"continuum.stages.{module.name}"))
    return dict(STAGE_KINDS)


def select_checkpoint(artifact: Artifact, ref: Ref[Any], run: StageRun) -> Artifact | None:
    """The artifact a reference means: the run's own, or the checkpoint at the selected step."""
    if ref.step is None or not isinstance(artifact, Checkpoint):
        return artifact
    for saved in run.checkpoints():
        if saved.manifest.step == ref.step:
            return artifact.model_copy(
                update={
                    "path": saved.path,
                    **{
                        name: getattr(saved.manifest, name)
                        for name in ("step", "tokens_seen", "tokens_total", "files", "digest")
                    },
                    "metrics": saved.manifest.metrics,
                }
            )
    return None


def _register(module: Any) -> None:
    for cls in vars(module).values():
        if not (isinstance(cls, type) and issubclass(cls, Stage)):
            continue
        if cls.__module__ != module.__name__ or "kind" not in cls.__annotations__:
            continue
        (kind,) = get_args(cls.model_fields["kind"].annotation)
        if kind in STAGE_KINDS:
            raise ValueError(f"two stage kinds are called {kind!r}: {STAGE_KINDS[kind]}, {cls}")
        STAGE_KINDS[kind] = cls


def _identity_of(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, LocalPath):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_identity_of(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _identity_of(item) for key, item in value.items()}
    return value


def _find_refs(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[Any, Ref[Any]]]:
    if isinstance(value, Ref):
        yield path, value
    elif isinstance(value, Spec):
        for name in type(value).model_fields:
            yield from _find_refs(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find_refs(key, (*path, str(key)))
            yield from _find_refs(item, (*path, str(key)))
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _find_refs(item, (*path, index))


def _relative(path: Path, folder: Path) -> str:
    import os.path

    return os.path.relpath(path, folder)


Precision = Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed"]
