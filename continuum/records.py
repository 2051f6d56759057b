"""The documents a run folder holds: what was asked for, what it used, what a checkpoint is."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from continuum.files import FileDigest
from continuum.fingerprint import fingerprint

STAGE_SCHEMA = "continuum.stage/1"
ARTIFACT_SCHEMA = "continuum.artifact/1"


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
    seal: str = ""
    """SHA-256 over all the other fields, so that damage to this very file is noticed."""

    def sealed(self) -> "CheckpointManifest":
        """This manifest with its seal."""
        return self.model_copy(update={"seal": self._own_digest()})

    @property
    def is_sealed(self) -> bool:
        """Whether the fields are those that were sealed."""
        return self.seal == self._own_digest()

    def _own_digest(self) -> str:
        return fingerprint(self.model_dump(mode="json", exclude={"seal"}))
