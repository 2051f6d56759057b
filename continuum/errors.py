"""What can go wrong in a way the user can act on.

    ContinuumError            exit 1   never raised itself
    ├── UsageError            exit 2   the command line makes no sense
    ├── SpecError             exit 3   the YAML is wrong (defined in loading/diagnostics.py)
    ├── PreflightError        exit 4   the YAML is right but the run cannot work
    ├── StageFailedError      exit 5   a stage did not finish
    ├── DecisionNeededError   exit 6   the user must choose
    ├── FolderInUseError      exit 7   another process writes this experiment
    ├── IntegrityError        exit 8   bytes on disk are not what was recorded
    ├── NotReproducedError    exit 9   the results are not those of the lock
    └── StoppedError          exit 75  stopped safely; run again to go on

Every other exception is a bug and keeps its traceback.
"""

from typing import ClassVar, Literal

Status = Literal["done", "reused", "stopped", "refused", "damaged", "failed", "crashed", "killed"]
"""How the carrying out of a stage ended."""


class ContinuumError(Exception):
    """An error the user can act on; the message says where, what, and what to do."""

    exit_code: ClassVar[int] = 1
    stage_status: ClassVar[Status] = "failed"
    """How a stage ends with it."""


class UsageError(ContinuumError):
    """The command line makes no sense."""

    exit_code = 2


class PreflightError(ContinuumError):
    """The spec is valid, but what it asks for cannot work with what is there."""

    exit_code = 4
    stage_status = "refused"


class StageFailedError(ContinuumError):
    """A stage did not finish."""

    exit_code = 5


class DecisionNeededError(ContinuumError):
    """Going on would lose or change something; the user must say what is wanted."""

    exit_code = 6


class FolderInUseError(ContinuumError):
    """Another process is writing this experiment's folder."""

    exit_code = 7


class IntegrityError(ContinuumError):
    """Bytes on disk are not the bytes that were recorded."""

    exit_code = 8
    stage_status = "damaged"


def how_to_make_again(ref: str) -> str:
    """What to do about a damaged artifact, by the reference that names it (`pretrain@step-5`)."""
    return f"`continuum run --rerun {ref.partition('@')[0]}` makes it again"


class NotReproducedError(ContinuumError):
    """A locked run came out with other bytes than the lock says."""

    exit_code = 9


class StoppedError(ContinuumError):
    """The run was stopped safely; the same command goes on from there."""

    exit_code = 75
    stage_status = "stopped"
