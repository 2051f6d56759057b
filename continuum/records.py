"""The documents a run folder holds: what was asked for, what it used, what a checkpoint is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from continuum.artifacts import DataPosition
from continuum.errors import IntegrityError
from continuum.figures import short_digest
from continuum.files import FileDigest, find_damage
from continuum.fingerprint import fingerprint_of_json
from continuum.seals import is_sealed, sealed

STAGE_SCHEMA = "continuum.stage/1"
ARTIFACT_SCHEMA = "continuum.artifact/1"
EARLIER_MICRO_BATCH_SIZE = 4
"""The default when a recorded evaluation counted micro-batches."""
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
    seal: str | None = None
    """Of the record of the run that made it; None where an earlier release wrote either."""


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
    seed: int | None = None
    """Of an earlier release, which had one seed for everything."""
    seeds: dict[str, int] | None = None
    """Those that the stage uses, by name; None in a record of an earlier release."""
    inputs: tuple[InputRecord, ...]
    save_steps: tuple[int, ...] = ()
    """Steps that other stages select: saved and never deleted."""
    best_metrics: tuple[str, ...] = ()
    """Metrics by which other stages select its best checkpoint: that is saved and kept too."""
    pins: dict[str, str] = {}
    """What the lock said sources that may move are, when the work began."""
    overrides: tuple[str, ...] = ()
    """`PATH=VALUE` texts of the command line that were applied to the spec."""
    leaks: tuple[str, ...] = ()
    """What validates a model that was trained on it, here or before, as far as it was known when
    the work began."""
    replaces: tuple[str, ...] = ()
    """Seals of earlier finished runs, as they and others recorded them, that this was made in the
    place of. In every record since runs are sealed."""
    made_at: str = ""
    """When the record was written, ISO 8601 in UTC."""
    provenance: dict[str, Any]
    """Versions, Git commit, host: facts about where the record was made."""

    def input(self, ref: str, fingerprint: str) -> InputRecord | None:
        """What was used of an input, whatever its stage was called then; None if that is unknown.

        Args:
            ref: As the spec says it now.
            fingerprint: Of the stage it refers to.
        """
        selector = ref.partition("@")[2]
        same = [item for item in self.inputs if item.fingerprint == fingerprint]
        by_name = [item for item in self.inputs if item.ref == ref]
        alike = [item for item in same if item.ref.partition("@")[2] == selector]
        found = [*(item for item in by_name if item in same), *alike, *by_name]
        return found[0] if found else None

    @property
    def is_of_sealed_run(self) -> bool:
        """True if the release that wrote it seals what it finishes."""
        return "replaces" in self.model_fields_set


class CheckpointManifest(BaseModel):
    """`manifest.json` of a training checkpoint, written after all its other files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    tokens_seen: int
    """Training tokens of the stage; those of skipped steps are none."""
    tokens_total: int
    tokens_total_known: bool = True
    """False if there may be more: weights made elsewhere are in the ancestry."""
    skipped_steps: int | None = None
    """Steps that were not taken (`on_nonfinite: skip`); None in one of an earlier release."""
    skipped_tokens: int | None = None
    """Tokens of those steps."""
    skipped_in_a_row: int = 0
    """Those of them since the last step that was taken."""
    world_size: int
    """Processes that trained it."""
    micro_batch_size: int = 1
    strategy: str = "single"
    files: tuple[FileDigest, ...]
    digest: str
    metrics: dict[str, float]
    vocabulary_digest: str | None
    model_config_fields: dict[str, Any]
    tied: bool | None = None
    """Whether embedding and output layer are one tensor; None in one of an earlier release."""
    parent: str | None
    """Digest of the checkpoint or weights the stage began from; None for a fresh model."""
    resolved: dict[str, Any] | None = None
    """What `auto` became in the attempt that wrote it; None in one of an earlier release."""
    data_read: dict[str, DataPosition] | None = None
    """Where training stands in each dataset, by its digest; None in one of an earlier release."""
    numerics: dict[str, Any] | None = None
    """Libraries, processor, threads and environment of that attempt; None of an earlier release."""
    seal: str = ""
    """SHA-256 over all the other fields, so that damage to this very file is noticed."""

    def sealed(self) -> "CheckpointManifest":
        """This manifest with its seal."""
        return self.model_copy(update={"seal": sealed(self._fields())["seal"]})

    @property
    def is_sealed(self) -> bool:
        """Whether the fields are those that were sealed."""
        return is_sealed(self._fields())

    def _fields(self) -> dict[str, Any]:
        optional = ("resolved", "data_read", "tied", "numerics")
        later = {name for name in optional if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=later)


def last_good(steps: Sequence[int], last_taken: int) -> int | None:
    """The newest of the saved steps whose weights gave finite gradients, None when none did.

    Args:
        last_taken: The step after which every one was skipped. It may be what went wrong, so its
            own checkpoint is no better than one saved during the skipped stretch.
    """
    return max((step for step in steps if step < last_taken), default=None)


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


def spec_as_now(record: StageRecord) -> dict[str, Any]:
    """The stage of a record with the fields of this release."""
    return with_sequences(record.spec, record.recipe)


def with_sequences(
    fields: Mapping[str, Any], recipe: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A stage or a recipe whose evaluation counts sequences, where it counted micro-batches.

    Args:
        recipe: Where a stage inherits its `runtime` from, if it has none of its own.
    """
    evaluate = fields.get("evaluate")
    if not isinstance(evaluate, dict) or "batches" not in evaluate:
        return dict(fields)
    runtime = fields.get("runtime") or (recipe or {}).get("runtime") or {}
    size = runtime.get("micro_batch_size", EARLIER_MICRO_BATCH_SIZE)
    batches = evaluate["batches"]
    if not (isinstance(batches, int) and isinstance(size, int)):
        return dict(fields)
    rest = {key: value for key, value in evaluate.items() if key != "batches"}
    return {**fields, "evaluate": {**rest, "sequences": batches * size}}


def is_sealed_as_written(raw: bytes) -> bool:
    """Whether the very fields of a manifest's text are those that were sealed.

    A manifest of an earlier release lacks fields that were added since; the model fills them in,
    and is slower.
    """
    return is_sealed(from_json(raw))


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


def check_fingerprint(record: StageRecord, path: Path) -> None:
    """See that a record's fingerprint is that of the identity in it.

    Raises:
        IntegrityError: either was edited; `path` is told.
    """
    own = fingerprint_of_json(record.identity)
    if own != record.fingerprint:
        raise IntegrityError(
            f"{path} was changed after it was written: its identity has the fingerprint "
            f"{short_digest(own)}, not {short_digest(record.fingerprint)}"
        )


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
