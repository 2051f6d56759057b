"""The documents a run folder holds: what was asked for, what it used, what a checkpoint is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from continuum.errors import IntegrityError
from continuum.files import FileDigest, find_damage
from continuum.fingerprint import fingerprint, fingerprint_of_json

STAGE_SCHEMA = "continuum.stage/1"
ARTIFACT_SCHEMA = "continuum.artifact/1"
ModelT = TypeVar("ModelT", bound=BaseModel)


class InputRecord(BaseModel):
    """One artifact a stage used: which run made it and what its bytes were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str
    """As the spec says it, `pretrain@step-500`."""
    run: str
    """The name of the run folder that made it."""
    fingerprint: str
    digest: str
    """Of the files used; for a selected checkpoint, of that checkpoint."""
    step: int | None = None
    """Of a training checkpoint: the optimizer step it was saved at."""


class StageRecord(BaseModel):
    """`stage.json`: everything a worker needs, and everything a reader wants to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    fingerprint: str
    identity: dict[str, Any]
    """The payload whose hash is the fingerprint."""
    spec: dict[str, Any]
    """The resolved stage, defaults filled in; paths are relative to the experiment folder."""
    recipe: dict[str, Any] | None = None
    """For a stage that trains: everything it inherits filled in."""
    seed: int
    inputs: tuple[InputRecord, ...]
    save_steps: tuple[int, ...] = ()
    """Steps that other stages select: saved and never deleted."""
    best_metrics: tuple[str, ...] = ()
    """Metrics by which other stages select its best checkpoint: that is saved and kept too."""
    pins: dict[str, str] = {}
    """What the lock said sources that may move are, when the work began."""
    overrides: tuple[str, ...] = ()
    """`PATH=VALUE` texts of the command line that were applied to the spec."""
    made_at: str = ""
    """When the record was written, ISO 8601 in UTC."""
    provenance: dict[str, Any]
    """Versions, Git commit, host: facts about where the record was made."""


class CheckpointManifest(BaseModel):
    """`manifest.json` of a training checkpoint, written after all its other files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    tokens_seen: int
    tokens_total: int
    world_size: int
    """Processes that trained it."""
    micro_batch_size: int = 1
    strategy: str = "single"
    files: tuple[FileDigest, ...]
    digest: str
    metrics: dict[str, float]
    vocabulary_digest: str | None
    model_config_fields: dict[str, Any]
    parent: str | None
    """Digest of the checkpoint or weights the stage began from; None for a fresh model."""
    resolved: dict[str, Any] | None = None
    """What `auto` became in the attempt that wrote it; None in one of an earlier release."""
    numerics: dict[str, Any] | None = None
    """Libraries, processor, threads and environment of that attempt; None of an earlier release."""
    seal: str = ""
    """SHA-256 over all the other fields, so that damage to this very file is noticed."""

    def sealed(self) -> "CheckpointManifest":
        """This manifest with its seal."""
        return self.model_copy(update={"seal": self._own_digest()})

    @property
    def is_sealed(self) -> bool:
        """Whether the fields are those that were sealed."""
        try:
            return self.seal == self._own_digest()
        except TypeError:  # of a number that is none, which was never sealed
            return False

    def _own_digest(self) -> str:
        later = {name for name in ("resolved", "numerics") if getattr(self, name) is None}
        return fingerprint(self.model_dump(mode="json", exclude={"seal"} | later))


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint folder whose manifest is as sealed and whose files have the recorded sizes."""

    path: Path
    manifest: CheckpointManifest

    def damage(self) -> list[str]:
        """What re-reading every byte finds wrong; empty when the checkpoint is whole."""
        return find_damage(self.path, self.manifest.files, read=True)


def saved_checkpoint(path: Path) -> SavedCheckpoint | None:
    """The checkpoint in a folder; None where there is no whole one."""
    found = read_manifest(path)
    if isinstance(found, str) or find_damage(path, found.files, read=False):
        return None
    return SavedCheckpoint(path, found)


def read_manifest(folder: Path) -> CheckpointManifest | str:
    """A checkpoint's manifest, as it was sealed for this very folder, or what is wrong with it."""
    path = folder / "manifest.json"
    try:
        raw = path.read_bytes()
        manifest = CheckpointManifest.model_validate_json(raw)
    except FileNotFoundError:
        return "manifest.json is missing"
    except (OSError, ValidationError) as error:
        return f"manifest.json cannot be read ({type(error).__name__})"
    if not (is_sealed_as_written(raw) or manifest.is_sealed):
        return "manifest.json was changed after it was written"
    if folder.name != checkpoint_name(manifest.step):
        return f"it is the checkpoint of step {manifest.step:,} under another name"
    return manifest


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:08d}"


def is_checkpoint_name(name: str) -> bool:
    """Whether a folder may be a checkpoint, `step-00000123`; a copy made beside them is none."""
    return len(name) >= 13 and name.startswith("step-") and name[5:].isdecimal()


def is_sealed_as_written(raw: bytes) -> bool:
    """Whether the very fields of a manifest's text are those that were sealed.

    A manifest of an earlier release lacks fields that were added since; the model fills them in,
    and is slower.
    """
    document: dict[str, Any] = from_json(raw)
    seal: str | None = document.pop("seal", None)
    return seal == fingerprint_of_json(document)


def read_document(path: Path, schema: str) -> dict[str, Any]:
    """A JSON document of ours, without the name of its schema.

    Raises:
        IntegrityError: it is missing or none of this schema.
    """
    try:
        document = from_json(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is not readable JSON ({error})") from None
    if not isinstance(document, dict) or document.pop("schema", None) != schema:
        raise IntegrityError(f"{path} is not a {schema} document")
    return document


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """A small JSON document that has no schema.

    Raises:
        IntegrityError: it is none; `remedy` says what to do.
    """
    try:
        value = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} is not readable JSON ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} holds no object, but {type(value).__name__}: {remedy}")
    return value


def parsed(model: type[ModelT], value: Any, path: Path) -> ModelT:
    """The value of a document as its type.

    Raises:
        IntegrityError: it is not whole; `path` is told.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise IntegrityError(f"{path} is not a whole record ({where}: {first['msg']})") from None
