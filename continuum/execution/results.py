"""What became of a run: its plan, how each stage ended, and the error to end with."""

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


@dataclass(frozen=True)
class Planned(Event):
    """The run has its plan."""

    plan: Plan

    def __str__(self) -> str:
        counts = Counter(planned.action for planned in self.plan)
        words = {Action.BLOCKED: "blocked"}
        listed = [f"{counts[a]} {words.get(a, f'to {a.value}')}" for a in Action if counts[a]]
        return f"{self.plan.experiment.name}: {', '.join(listed)}"


ERRORS: dict[str, type[ContinuumError]] = {
    error.stage_status: error for error in (StoppedError, PreflightError, IntegrityError)
}
"""What a run ends with, by how its stage did; any other has failed."""


@dataclass
class RunResult:
    """What became of every stage of a run."""

    plan: Plan
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of the stages that were carried out; the others were reused or not reached."""
    unrecorded: str = ""
    """Why the graph or the lock could not be written; the records they are drawn from are there."""

    @property
    def settled(self) -> set[str]:
        """The stages whose artifact is what the spec leads to now."""
        well = {name for name, o in self.outcomes.items() if o.status in ("done", "reused")}
        return well | self.plan.reused

    def raise_for_failure(self) -> None:
        """Raise the error of the first stage that did not finish, or of a run not reproduced."""
        order = {"damaged": 0, "failed": 0, "crashed": 0, "killed": 0, "refused": 1, "stopped": 2}
        bad = [(n, o) for n, o in self.outcomes.items() if o.status not in ("done", "reused")]
        for name, outcome in sorted(bad, key=lambda item: order[item[1].status]):
            others = ", ".join(other for other, _ in bad if other != name)
            message = f"{name}: {outcome.message}" + (
                f" (so did not end: {others})" if others else ""
            )
            raise ERRORS.get(outcome.status, StageFailedError)(message)
        if self.unrecorded:
            raise StageFailedError(self.unrecorded)
        if self.plan.request.locked:
            check_reproduced(self.plan)
