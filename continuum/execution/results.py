"""The result of a run: its plan, how each stage ended, and the error to end with."""

from collections import Counter
from dataclasses import dataclass, field

from continuum.errors import (
    ContinuumError,
    IntegrityError,
    PreflightError,
    StageFailedError,
    StoppedError,
)
from continuum.planning.locked_run import check_reproduced
from continuum.planning.plan import Action, Plan
from continuum.runs.events import Event, Outcome

ERRORS: dict[str, type[ContinuumError]] = {
    error.stage_status: error for error in (StoppedError, PreflightError, IntegrityError)
}
"""The error of a run by the status of its stage; any other status is a StageFailedError.

A PreflightError says that nothing was started.
"""


@dataclass(frozen=True)
class Planned(Event):
    """The plan of the run is ready."""

    plan: Plan

    def __str__(self) -> str:
        counts = Counter(planned.action for planned in self.plan)
        words = {Action.BLOCKED: "blocked"}
        listed = [f"{counts[a]} {words.get(a, f'to {a.value}')}" for a in Action if counts[a]]
        return f"{self.plan.experiment.name}: {', '.join(listed)}"


@dataclass
class RunResult:
    """How every stage of a run ended."""

    plan: Plan
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of the stages that ran; the others were reused or skipped."""
    started: set[str] = field(default_factory=set)
    """The stages of which an attempt was started."""
    unrecorded: str = ""
    """Why `lineage.json` or `continuum.lock` could not be written; the records are complete."""

    @property
    def up_to_date(self) -> set[str]:
        """The stages whose artifact is what the spec now leads to."""
        succeeded = {name for name, outcome in self.outcomes.items() if outcome.has_succeeded}
        return succeeded | self.plan.reused

    def raise_for_failure(self) -> None:
        """Raise the error of the first stage that did not finish, or of a run not reproduced."""
        late = {"refused": 1, "stopped": 2}
        bad = [(name, it) for name, it in self.outcomes.items() if not it.has_succeeded]
        for name, outcome in sorted(bad, key=lambda item: late.get(item[1].status, 0)):
            others = ", ".join(other for other, _ in bad if other != name)
            also = f" (also not finished: {others})" if others else ""
            error = ERRORS.get(outcome.status, StageFailedError)
            if error is PreflightError and self.started:
                error = StageFailedError
            raise error(f"{name}: {outcome.message}{also}")
        if self.unrecorded:
            raise StageFailedError(self.unrecorded)
        if self.plan.request.locked:
            check_reproduced(self.plan)
