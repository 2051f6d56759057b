"""The documents of a run folder: the request, the result, and the seals over both.

A seal is a SHA-256 over all other fields of a JSON document, which reveals an edit. An editor could
recompute it, so the seal of a finished run is also recorded elsewhere: in the runs that used it and
in `continuum.lock`.

`artifact.json` seals the records beside it as they were at the end of the run: `stage.json`,
`resolved.json` and `metrics.jsonl`; the lines of `attempts.jsonl` up to then, since the end of the
process is appended later; and the seals of the checkpoints.
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
RESEALED = "was edited and resealed: continuum.lock has another seal of this run"
UNSEALED = ("resolved", "data_read", "tied", "numerics")
"""Fields of a manifest that are not sealed if null: earlier releases lack them."""
EARLIER_MICRO_BATCH_SIZE = 4
"""The default in releases whose evaluations counted micro-batches."""
ModelT = TypeVar("ModelT", bound=BaseModel)


class InputRecord(BaseModel):
    """An artifact that a stage used: the run that made it and its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str
    """The reference in the spec, `pretrain@step-500`."""
    run: str
    fingerprint: str
    digest: str
    """Digest of the files used, or of the selected checkpoint."""
    step: int | None = None
    """For a training checkpoint: the optimizer step."""
    seal: str | None = None
    """Seal of that run; None if an earlier release wrote either record."""


class StageRecord(BaseModel):
    """`stage.json`: everything that a worker needs, and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    fingerprint: str
    identity: dict[str, Any]
    """The payload whose hash is the fingerprint."""
    spec: dict[str, Any]
    """The resolved stage with defaults; paths are relative to the experiment folder."""
    recipe: dict[str, Any] | None = None
    """For a stage that trains: all hyperparameters, including inherited ones."""
    seed: int | None = None
    """The only seed in earlier releases."""
    seeds: dict[str, int] | None = None
    """The seeds that the stage uses, by name; None for earlier releases."""
    inputs: tuple[InputRecord, ...]
    save_steps: tuple[int, ...] = ()
    """Steps that other stages select: saved and kept."""
    best_metrics: tuple[str, ...] = ()
    """Metrics by which other stages select the best checkpoint: saved and kept."""
    pins: dict[str, str] = {}
    """Pinned versions of mutable sources in the lock when the work started."""
    overrides: tuple[str, ...] = ()
    """`PATH=VALUE` overrides from the command line."""
    leaks: tuple[str, ...] = ()
    """Validation data that the model was trained on, here or before, as known at the start."""
    replaces: tuple[str, ...] = ()
    """Seals of earlier finished runs that this run replaces, as they and others recorded them.
    Set in every record since runs are sealed."""
    made_at: str = ""
    """Time of writing, ISO 8601 in UTC."""
    provenance: dict[str, Any]

    def input(self, ref: str, fingerprint: str) -> InputRecord | None:
        """The record of an input, even if its stage was renamed since; None if there is none.

        Args:
            ref: The reference in the spec now.
            fingerprint: The fingerprint of its stage.
        """
        selector = ref.partition("@")[2]
        same = [item for item in self.inputs if item.fingerprint == fingerprint]
        by_name = [item for item in self.inputs if item.ref == ref]
        alike = [item for item in same if item.ref.partition("@")[2] == selector]
        found = [*(item for item in by_name if item in same), *alike, *by_name]
        return found[0] if found else None

    @property
    def is_of_sealed_run(self) -> bool:
        """Whether the release that wrote it seals finished runs."""
        return "replaces" in self.model_fields_set


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Add the seal to a document.

    Raises:
        TypeError: a value has no canonical form, as NaN.
    """
    return {**document, "seal": fingerprint(_unsealed(document))}


def is_sealed(document: Mapping[str, Any]) -> bool:
    """Whether the seal of a document read from JSON is valid."""
    return document.get("seal") == fingerprint_of_json(_unsealed(document))


def _unsealed(document: Mapping[str, Any]) -> dict[str, Any]:
    excluded = {"seal", *(name for name in UNSEALED if document.get(name) is None)}
    return {name: value for name, value in document.items() if name not in excluded}


def manifest_of(checkpoint: TrainingCheckpoint) -> dict[str, Any]:
    """The content of a checkpoint's `manifest.json`, sealed."""
    return sealed(checkpoint.model_dump(mode="json", exclude={"path"}))


def artifact_document(artifact: Artifact, run: Path) -> dict[str, Any]:
    """The content of `artifact.json`; it seals the records of the run."""
    fields = artifact.model_dump(mode="json", exclude=set(artifact.only_in_manifest))
    document = {
        "schema": ARTIFACT_SCHEMA,
        "type": type(artifact).__name__,
        "artifact": {**fields, "path": artifact.path.relative_to(run).as_posix()},
        "records": records_beside(run).model_dump(mode="json"),
    }
    return sealed(document)


def read_artifact(folder: Path) -> Artifact:
    """Read the `artifact.json` of a run folder, or the `manifest.json` of a checkpoint.

    Raises:
        IntegrityError: the document is missing, invalid, changed since it was sealed, or of another
            checkpoint.
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
            raise IntegrityError(f"{path} belongs to step {step}; the folder was copied or renamed")
        return checkpoint
    if document.get("schema") != ARTIFACT_SCHEMA:
        raise IntegrityError(f"{path} is not a {ARTIFACT_SCHEMA} document")
    cls = ARTIFACT_TYPES.get(document.get("type", ""))
    if cls is None:
        raise IntegrityError(
            f"{path}: unknown artifact type {document.get('type')!r}; "
            "is the package that defines its stage kind still installed?"
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
    """Hash the records of a run folder."""
    files = []
    for name in SEALED_BESIDE:
        path = run / name
        if path.is_file():
            # The next append removes what follows the last newline.
            is_appended = name == ATTEMPTS
            size = path.read_bytes().rfind(b"\n") + 1 if is_appended else path.stat().st_size
            files.append(FileDigest(path=name, size_bytes=size, sha256=sha256_file(path, size)))
    seals = {}
    for folder in sorted((run / CHECKPOINTS).glob("step-*")):
        with suppress(IntegrityError):
            if is_checkpoint_name(folder.name):
                seals[folder.name] = read_artifact(folder).seal or ""
    return SealedRecords(files=tuple(files), checkpoints=seals)


def find_changes(run: Path, then: SealedRecords, *, read: bool) -> Iterator[tuple[str, str]]:
    """The records that changed after the end of the run, and how.

    Args:
        read: False compares only the size of `metrics.jsonl`, which may be large.
    """
    known = {file.path: file for file in then.files}
    for name in SEALED_BESIDE:
        problem = _change(run / name, known.get(name), read=read)
        if problem:
            yield name, problem


def find_other_seals(then: SealedRecords, now: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The checkpoints that were added or changed after the end of the run, by their seals now."""
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
            return "has an attempt that started after the run was finished"
    except FileNotFoundError:
        return None if then is None else "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def checkpoint_name(step: int) -> str:
    """The folder name of a checkpoint."""
    return f"step-{step:08d}"


def is_checkpoint_name(name: str) -> bool:
    """Whether a folder name is that of a checkpoint, `step-00000123`; copies are ignored."""
    return len(name) >= 13 and name.startswith("step-") and name[5:].isdecimal()


def with_sequences(
    fields: Mapping[str, Any], recipe: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Convert an evaluation that counts micro-batches, of an earlier release, to sequences.

    Args:
        fields: Of a stage or a recipe.
        recipe: Has the `runtime` of a stage that inherits it.
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
    """Read a JSON document and remove the name of its schema.

    Raises:
        IntegrityError: it is missing or has another schema.
    """
    document = read_json(path)
    if document.pop("schema", None) != schema:
        raise IntegrityError(f"{path} is not a {schema} document")
    return document


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        IntegrityError: the file is missing or holds none; `remedy` says what to do.
    """
    remedy = remedy and f": {remedy}"
    try:
        value = from_json(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing{remedy}") from None
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} is not valid JSON ({error}){remedy}") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} is not a JSON object, but {type(value).__name__}{remedy}")
    return value


def parsed(model: type[ModelT], value: Any, path: Path) -> ModelT:
    """Parse a value of the document at `path`.

    Raises:
        IntegrityError: it is not valid.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a valid record ({first_error(error)})") from None


def first_error(error: ValidationError) -> str:
    """The first error of a document, with its place in it."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    return f"{where}: {first['msg']}"
