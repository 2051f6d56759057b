"""Errors that the user can act on, and their exit codes.

    ContinuumError            exit 1   never raised itself
    ├── UsageError            exit 2   invalid command line
    ├── SpecError             exit 3   invalid YAML (defined in loading/diagnostics.py)
    ├── PreflightError        exit 4   valid YAML that cannot work
    ├── StageFailedError      exit 5   a stage did not finish
    ├── DecisionNeededError   exit 6   the user must choose
    ├── FolderInUseError      exit 7   another process writes this experiment
    ├── IntegrityError        exit 8   files differ from their records
    ├── NotReproducedError    exit 9   the results differ from the lock
    └── StoppedError          exit 75  stopped safely; run again to resume

Every other exception is a bug and keeps its traceback.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

Status = Literal["done", "reused", "stopped", "refused", "damaged", "failed", "crashed", "killed"]
"""How a stage ended."""


class ContinuumError(Exception):
    """An error that the user can act on; the message says where, what, and what to do."""

    exit_code: ClassVar[int] = 1
    stage_status: ClassVar[Status] = "failed"
    """The status of a stage that raises it."""


class UsageError(ContinuumError):
    """The command line is invalid."""

    exit_code = 2


class PreflightError(ContinuumError):
    """The spec is valid, but what it asks for cannot work with what is available."""

    exit_code = 4
    stage_status = "refused"


class StageFailedError(ContinuumError):
    """A stage did not finish."""

    exit_code = 5


class DecisionNeededError(ContinuumError):
    """To continue would lose or change something; the user must decide."""

    exit_code = 6


class FolderInUseError(ContinuumError):
    """Another process is writing this experiment's folder."""

    exit_code = 7


class IntegrityError(ContinuumError):
    """A file differs from its record, or the record is missing or corrupt."""

    exit_code = 8
    stage_status = "damaged"


def rerun_hint(ref: str) -> str:
    """How to rebuild a corrupt artifact, by the reference that names it (`pretrain@step-5`)."""
    return f"rebuild it with `continuum run --rerun {ref.partition('@')[0]}`"


class NotReproducedError(ContinuumError):
    """A locked run gave other results than the lock says."""

    exit_code = 9


class StoppedError(ContinuumError):
    """The run was stopped safely; the same command resumes it."""

    exit_code = 75
    stage_status = "stopped"

    @staticmethod
    def with_nothing_saved() -> "StoppedError":
        """Of a stage that does not train, wherever it was."""
        return StoppedError("stopped; it starts over with the next run")


Severity = Literal["error", "warning"]
Needs = Literal["spec", "folder", "machine"]


@dataclass(frozen=True)
class Problem:
    """An error or warning at a path of the experiment, or of the part that was checked."""

    path: tuple[str | int, ...]
    message: str
    suggestion: str | None = None
    code: str = ""
    """The code for `continuum explain`; see `topic`."""
    severity: Severity = "error"
    """`run` refuses to start if there is an error."""
    needs: Needs = "spec"
    """The input it depends on: the spec alone, the experiment's folder, or this machine.

    `validate` and `diff` skip problems of the machine, since another one may not have them.
    """
    at_key: bool = False
    """True if it is about the key at `path`, not its value."""
    is_secret: bool = False
    """True if the value must not be printed."""

    @property
    def topic(self) -> str:
        """The code, or the general one for its severity and what it depends on."""
        if self.code or self.severity == "warning":
            return self.code or "W016"
        return {"spec": "E401", "folder": "E402", "machine": "E403"}[self.needs]

    def below(self, *prefix: str | int) -> "Problem":
        """Return the same problem with its path below `prefix`."""
        return replace(self, path=(*prefix, *self.path))

    def __str__(self) -> str:
        return self.message
