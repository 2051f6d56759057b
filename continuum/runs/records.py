"""The documents of a run folder: what was asked for, what was made, and the seals over both.

A seal is one SHA-256 over all other fields of a JSON document, so that an edit of it shows. It can
be computed anew by whoever edits the document; so the seal of a finished run is also recorded
elsewhere, in what was made from the run and in `continuum.lock`.

`artifact.json` seals the records beside it as they were at the run's end: `stage.json`,
`resolved.json` and `metrics.jsonl` as a whole; of `attempts.jsonl` the lines up to then, as the end
of the process is added by whoever waited for it; and the seals of the checkpoints.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from continuum.errors import IntegrityError
from continuum.runs.artifacts import ARTIFACT_TYPES, Artifact, SealedRecords, TrainingCheckpoint
from continuum.runs.files import FileDigest, sha256_file
from continuum.runs.fingerprint import fingerprint, fingerprint_of_json

STAGE_SCHEMA = "continuum.stage/1"
ARTIFACT_SCHEMA = "continuum.artifact/1"
MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
ATTEMPTS, METRICS = "attempts.jsonl", "metrics.jsonl"
SEALED_BESIDE = ("stage.json", "resolved.json", METRICS, ATTEMPTS)
CHANGED_SINCE = "was changed after the run was finished"
CHANGED = "was changed after it was written"
UNSEALED = ("resolved", "data_read", "tied", "numerics")
"""Fields of a manifest that are not sealed where they are null: earlier releases lack them."""
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


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its seal.

    Raises:
        TypeError: it holds something without a canonical form, as NaN.
    """
    return {**document, "seal": fingerprint(_unsealed(document))}


def is_sealed(document: Mapping[str, Any]) -> bool:
    """True if the fields, as they were read from JSON, are those that were sealed."""
    return document.get("seal") == fingerprint_of_json(_unsealed(document))


def _unsealed(document: Mapping[str, Any]) -> dict[str, Any]:
    left_out = {"seal", *(name for name in UNSEALED if document.get(name) is None)}
    return {name: value for name, value in document.items() if name not in left_out}


def manifest_of(checkpoint: TrainingCheckpoint) -> dict[str, Any]:
    """The document `manifest.json` of a checkpoint, with its seal."""
    return sealed(checkpoint.model_dump(mode="json", exclude={"path"}))


def artifact_document(artifact: Artifact, run: Path) -> dict[str, Any]:
    """The document `artifact.json` of what a run made; seals the records that lie in the run."""
    fields = artifact.model_dump(mode="json", exclude=set(artifact.only_in_manifest))
    document = {
        "schema": ARTIFACT_SCHEMA,
        "type": type(artifact).__name__,
        "artifact": {**fields, "path": artifact.path.relative_to(run).as_posix()},
        "records": records_beside(run).model_dump(mode="json"),
    }
    return sealed(document)


def read_artifact(folder: Path) -> Artifact:
    """What a run folder's `artifact.json` or a checkpoint's `manifest.json` describes.

    Raises:
        IntegrityError: the document is missing, not valid, not as it was sealed, or that of
            another checkpoint.
    """
    is_checkpoint = folder.parent.name == CHECKPOINTS
    path = folder / (MANIFEST if is_checkpoint else "artifact.json")
    document = read_json(path)
    must_be_sealed = is_checkpoint or "seal" in document or "records" in document
    if must_be_sealed and not is_sealed(document):
        raise IntegrityError(f"{path} {CHANGED}")
    seal = document.pop("seal", None)
    if is_checkpoint:
        fields = {**document, "path": folder, "seal": seal}
        checkpoint = parsed(TrainingCheckpoint, fields, path)
        if folder.name != checkpoint_name(checkpoint.step):
            step = f"{checkpoint.step:,}"
            raise IntegrityError(f"{path}: it is the checkpoint of step {step} under another name")
        return checkpoint
    if document.get("schema") != ARTIFACT_SCHEMA:
        raise IntegrityError(f"{path} is not a {ARTIFACT_SCHEMA} document")
    cls = ARTIFACT_TYPES.get(document.get("type", ""))
    if cls is None:
        raise IntegrityError(
            f"{path}: unknown artifact type {document.get('type')!r}; "
            "is the file that defines its stage kind still installed?"
        )
    artifact = parsed(cls, document.get("artifact"), path)
    records = document.get("records")
    return artifact.model_copy(
        update={
            "path": folder / artifact.path,
            "seal": seal,
            "records": records and parsed(SealedRecords, records, path),
        }
    )


def records_beside(run: Path) -> SealedRecords:
    """The records of a run folder as they are now."""
    files = []
    for name in SEALED_BESIDE:
        path = run / name
        if path.is_file():
            # Behind the last newline is what whoever appends next cuts off.
            whole = path.read_bytes().rfind(b"\n") + 1 if name == ATTEMPTS else None
            size = path.stat().st_size if whole is None else whole
            files.append(FileDigest(path=name, size_bytes=size, sha256=sha256_file(path, size)))
    return SealedRecords(files=tuple(files), checkpoints=seals_of_checkpoints(run))


def seals_of_checkpoints(run: Path) -> dict[str, str]:
    """The seal of each checkpoint whose manifest is as it was sealed, by the folder's name."""
    seals = {}
    for folder in sorted((run / CHECKPOINTS).glob("step-*")):
        with suppress(IntegrityError):
            if is_checkpoint_name(folder.name):
                seals[folder.name] = read_artifact(folder).seal or ""
    return seals


def find_changes(run: Path, then: SealedRecords, *, read: bool) -> Iterator[tuple[str, str]]:
    """What differs from the end of the run: which record, and how.

    Args:
        read: False compares `metrics.jsonl`, which may be large, by its size alone.
    """
    known = {file.path: file for file in then.files}
    for name in SEALED_BESIDE:
        problem = _change(run / name, known.get(name), read=read)
        if problem:
            yield name, problem


def find_other_seals(then: SealedRecords, now: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Checkpoints that are not those the run ended with, by the seals of the ones there are now."""
    for name, seal in now.items():
        if name not in then.checkpoints:
            yield name, "was added after the run was finished"
        elif seal != then.checkpoints[name]:
            yield name, f"its manifest.json {CHANGED_SINCE}"


def _change(path: Path, then: FileDigest | None, *, read: bool) -> str | None:
    is_appended = path.name == ATTEMPTS
    try:
        size = path.stat().st_size
        if then is None:
            return None if is_appended else "was added after the run was finished"
        if size < then.size_bytes or (size > then.size_bytes and not is_appended):
            return CHANGED_SINCE
        if (read or path.name != METRICS) and sha256_file(path, then.size_bytes) != then.sha256:
            return CHANGED_SINCE
        if is_appended and b'"event": "started"' in path.read_bytes()[then.size_bytes :]:
            return "has an attempt that began after the run was finished"
    except FileNotFoundError:
        return None if then is None else "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


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


def read_document(path: Path, schema: str) -> dict[str, Any]:
    """A JSON document of ours, without the name of its schema.

    Raises:
        IntegrityError: it is missing or none of this schema.
    """
    document = read_json(path)
    if document.pop("schema", None) != schema:
        raise IntegrityError(f"{path} is not a {schema} document")
    return document


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """A JSON object.

    Raises:
        IntegrityError: the file holds none; `remedy` says what to do.
    """
    remedy = remedy and f": {remedy}"
    try:
        value = from_json(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing{remedy}") from None
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} is not readable JSON ({error}){remedy}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} holds no object, but {type(value).__name__}{remedy}")
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
