"""Why a plan does what it does: one small type for each reason, in words and as JSON."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from continuum.fields import Spec, field_values
from continuum.figures import short_digest
from continuum.fingerprint import ABSENT
from continuum.spec.emitting import in_one_line


@dataclass(frozen=True)
class Reason(ABC):
    """One reason. `code` is stable; the words may change."""

    code: ClassVar[str]

    @abstractmethod
    def __str__(self) -> str:
        """The reason in words."""

    def as_json(self) -> dict[str, Any]:
        """The code, the words, and the reason's own fields."""
        return {"code": self.code, "text": str(self), **asdict(self)}


@dataclass(frozen=True)
class Complete(Reason):
    """The artifact is there and nothing it hangs on has changed."""

    code: ClassVar[str] = "complete"

    def __str__(self) -> str:
        return "complete"


@dataclass(frozen=True)
class NeverRun(Reason):
    """No run of a stage of this name is in the folder."""

    code: ClassVar[str] = "never-run"

    def __str__(self) -> str:
        return "never run"


@dataclass(frozen=True)
class NewVersion(Reason):
    """A later continuum makes something else from the same spec, or records it otherwise."""

    kind: str
    old: int
    """Version of the kind when it ran."""
    new: int
    news: tuple[str, ...]
    """What is made otherwise."""

    code: ClassVar[str] = "new-version"

    def __str__(self) -> str:
        if self.old == self.new:
            return "new version of continuum's records"
        told = f": {'; '.join(self.news)}" if self.news else ""
        return f"new version of the kind {self.kind}{told}"


@dataclass(frozen=True)
class Renamed(Reason):
    """The stage had another name when it ran, which its folder keeps; the work is the same."""

    old: str

    code: ClassVar[str] = "renamed"

    def __str__(self) -> str:
        return f"renamed: it ran as {self.old}"


@dataclass(frozen=True)
class FieldChanged(Reason):
    """A field differs from that of the latest earlier run of the stage."""

    path: str
    old: Any
    new: Any
    role: str
    """`identity`: another result; `runtime`: the same work done in another way; `spelling`: the
    same said in another way."""

    code: ClassVar[str] = "field-changed"

    def __str__(self) -> str:
        how = "" if self.role == "identity" else f" ({self.role})"
        old, new = in_one_line(self.old), in_one_line(self.new)
        return f"{self.path} changed: {old} -> {new}{how}"


@dataclass(frozen=True)
class InputChanged(Reason):
    """Bytes the stage reads differ: of a local file, or of an artifact that was made again."""

    name: str
    old: str | None
    """SHA-256 before; None for a file that was not there."""
    new: str | None

    code: ClassVar[str] = "input-changed"

    def __str__(self) -> str:
        if self.old is None or self.new is None:
            return f"{self.name} {'is new' if self.old is None else 'is gone'}"
        return (
            f"{self.name} has other bytes: {short_digest(self.old)} -> "
            f"{short_digest(self.new)} (SHA-256)"
        )


@dataclass(frozen=True)
class UpstreamChanged(Reason):
    """A stage it refers to is now another one."""

    ref: str
    old: str | None
    """Fingerprint before; None for a stage it did not refer to."""
    new: str | None

    code: ClassVar[str] = "upstream-changed"

    def __str__(self) -> str:
        return f"{self.ref} changed"


@dataclass(frozen=True)
class UpstreamRunsAgain(Reason):
    """A stage it refers to is made again; if its bytes come out equal, what is here stays good."""

    ref: str

    code: ClassVar[str] = "upstream-runs-again"

    def __str__(self) -> str:
        return f"{self.ref} is made again: kept if its bytes come out equal, else run anew"


@dataclass(frozen=True)
class PinChanged(Reason):
    """The lock pins a source to something else than what was used."""

    source: str
    old: str
    new: str

    code: ClassVar[str] = "pin-changed"

    def __str__(self) -> str:
        return (
            f"continuum.lock pins {self.source} to {short_digest(self.new)}, "
            f"not {short_digest(self.old)}"
        )


@dataclass(frozen=True)
class Interrupted(Reason):
    """An attempt did not end; `step` is that of the checkpoint it goes on from."""

    step: int | None

    code: ClassVar[str] = "interrupted"

    def __str__(self) -> str:
        if self.step is None:
            return "interrupted before anything was saved"
        return f"interrupted; goes on from step {self.step:,}"


@dataclass(frozen=True)
class ArtifactDamaged(Reason):
    """A file of the artifact is missing or not as recorded."""

    what: str

    code: ClassVar[str] = "artifact-damaged"

    def __str__(self) -> str:
        return f"its artifact is damaged: {self.what}"


@dataclass(frozen=True)
class Forced(Reason):
    """The user asked for it to be made again."""

    code: ClassVar[str] = "forced"

    def __str__(self) -> str:
        return "asked for by --rerun"


@dataclass(frozen=True)
class CannotWork(Reason):
    """What is known to go wrong."""

    problem: str

    code: ClassVar[str] = "problem"

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True)
class WaitsFor(Reason):
    """A stage it refers to cannot run."""

    stage: str

    code: ClassVar[str] = "waits-for"

    def __str__(self) -> str:
        return f"waits for {self.stage}"


REASONS = (
    Complete, NeverRun, NewVersion, Renamed, FieldChanged, InputChanged, UpstreamChanged,
    UpstreamRunsAgain, PinChanged, Interrupted, ArtifactDamaged, Forced, CannotWork, WaitsFor,
)  # fmt: skip


def changed_fields(earlier: Spec, now: Spec) -> Iterator[FieldChanged]:
    """Every field that differs, whatever its role, in the order of the paths."""
    before = {item.path: item for item in field_values(earlier)}
    after = {item.path: item for item in field_values(now)}
    for path in sorted(before.keys() | after.keys()):
        was, is_now = before.get(path), after.get(path)
        old, new = (ABSENT if item is None else item.value for item in (was, is_now))
        role = (is_now or was).role  # type: ignore[union-attr]  # one of them is there
        if old != new:
            yield FieldChanged(path, old, new, role)
