"""What a run would do, and why.

The plan is decided in `planner`, printed by `continuum plan` and carried out by `executor`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import Ref, Spec
from continuum.experiment.forecast import Forecast
from continuum.experiment.identity import Identity
from continuum.experiment.selection import step_problems
from continuum.experiment.stage import PlanInput, Stage
from continuum.planning.changes import Change
from continuum.planning.existing import Existing, History
from continuum.planning.lockfile import Lock
from continuum.problems import Problem
from continuum.runs.artifacts import Artifact
from continuum.runs.folder import ExperimentFolder, StageRun


class Action(StrEnum):
    """What is done about a stage."""

    RUN = "run"
    RECOVER = "recover"
    CHECK = "check"
    """Reuse it if its inputs, which are made again, come out with the same bytes; else run."""
    REUSE = "reuse"
    BLOCKED = "blocked"


class Cause(StrEnum):
    """Why a plan does what it does, where that is no difference; the values are codes in JSON."""

    COMPLETE = "complete"
    NEVER_RUN = "never-run"
    RENAMED = "renamed"
    UPSTREAM_RUNS_AGAIN = "upstream-runs-again"
    INTERRUPTED = "interrupted"
    DAMAGED = "artifact-damaged"
    FORCED = "forced"
    PROBLEM = "problem"
    WAITS_FOR = "waits-for"


_WORDS: Mapping[Cause, tuple[str, str]] = {
    Cause.COMPLETE: ("", "complete"),
    Cause.NEVER_RUN: ("", "never run"),
    Cause.RENAMED: ("old", "renamed: it ran as {}"),
    Cause.UPSTREAM_RUNS_AGAIN: (
        "ref", "{} is made again: kept if its bytes come out equal, else run anew"
    ),
    Cause.INTERRUPTED: ("step", "interrupted; goes on from step {:,}"),
    Cause.DAMAGED: ("what", "its artifact is damaged: {}"),
    Cause.FORCED: ("", "asked for by --rerun"),
    Cause.PROBLEM: ("problem", "{}"),
    Cause.WAITS_FOR: ("stage", "waits for {}"),
}  # fmt: skip
"""The key of the detail in JSON, and the words around it."""


@dataclass(frozen=True)
class Reason:
    """One reason that is no difference."""

    cause: Cause
    detail: str | int | None = None
    """The earlier name, the reference, the step, the damage, the problem, or the stage."""

    @property
    def code(self) -> str:
        return self.cause.value

    def __str__(self) -> str:
        if self == Reason(Cause.INTERRUPTED):
            return "interrupted before anything was saved"
        return _WORDS[self.cause][1].format(self.detail)

    def as_json(self) -> dict[str, Any]:
        """The code, the words, and the detail."""
        key = _WORDS[self.cause][0]
        return {"code": self.code, "text": str(self), **({key: self.detail} if key else {})}


@dataclass(frozen=True)
class Request:
    """What the user asks for besides the spec."""

    overrides: tuple[str, ...] = ()
    """`PATH=VALUE` texts that were applied to the spec."""
    rerun: frozenset[str] = frozenset()
    """Stages to make again though nothing has changed."""
    locked: bool = False
    """Whether any deviation from `continuum.lock` is refused."""


NOTHING_MORE = Request()
"""What is asked for when only a spec is given."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage with its identity, its run folder, and what is to be done."""

    name: str
    identity: Identity
    existing: Existing
    run: StageRun
    """Where it is made: the folder that exists, or a new one."""
    forecast: Forecast
    pins: Mapping[str, str]
    """What the lock says its sources are."""
    save_steps: tuple[int, ...]
    """Steps of it that other stages select."""
    best_metrics: tuple[str, ...]
    """Metrics by which other stages select its best checkpoint."""
    action: Action = Action.RUN
    reasons: tuple[Reason | Change, ...] = ()
    archive: bool = False
    """Whether what lies in the run folder must give way first."""
    from_step: int | None = None
    """Of a recovery: the optimizer step it goes on from."""

    @property
    def stage(self) -> Stage:
        return self.identity.stage

    @property
    def recipe(self) -> Spec | None:
        return self.identity.recipe

    @property
    def refs(self) -> tuple[Ref[Any], ...]:
        return self.identity.refs

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint

    def does(
        self, action: Action, *reasons: Reason | Change, archive: bool = False
    ) -> "PlannedStage":
        """The stage with what is done about it, and why."""
        return replace(self, action=action, reasons=reasons, archive=archive, from_step=None)

    @property
    def is_made_again(self) -> bool:
        """Whether its artifact may come out with other bytes than those that are there."""
        return self.action in (Action.RUN, Action.RECOVER, Action.CHECK)

    def as_input(self, ref: Ref[Any], artifact: Artifact | None) -> PlanInput:
        """It as the input of a stage that refers to it.

        Args:
            artifact: What the reference means, if that is there.
        """
        view = artifact.view(ref.expects) if artifact is not None else None
        return PlanInput(self.stage, self.forecast, view, self.recipe)

    def step_problems(self, ref: Ref[Any]) -> Iterator[Problem]:
        """Why a step of it that is still to be taken, and that `ref` selects, will not be there."""
        if ref.step is None or self.action in (Action.REUSE, Action.CHECK):
            return
        last_step = self.forecast.num_steps
        if last_step is not None:
            first_step = last_step - self.forecast.facts.get("steps", last_step) + 1
            if told := [*step_problems(ref, range(first_step, last_step + 1))]:
                yield from told
                return
        saved = self.existing.saved_steps
        if self.from_step is not None and ref.step <= self.from_step and ref.step not in saved:
            yield Problem(
                (),
                f"{ref!r}: {self.name} goes on from step {self.from_step:,} and kept no checkpoint "
                f"of step {ref.step:,}; there are {', '.join(map(str, saved))}",
                needs="folder",
            )


@dataclass(frozen=True)
class Plan:
    """The stages in an order they can run in."""

    experiment: Experiment
    folder: ExperimentFolder
    stages: Mapping[str, PlannedStage]
    history: History
    """All runs of the folder."""
    request: Request = NOTHING_MORE
    lock: Lock | None = None
    """As it was read, under today's names; None when there is none."""

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages.values())

    @property
    def problems(self) -> list[Problem]:
        """Why the run is refused, by paths of the experiment; empty when it can start."""
        found = ((planned.name, it) for planned in self for it in planned.forecast.problems)
        return [problem.below("stages", name) for name, problem in found]

    @property
    def reused(self) -> set[str]:
        """The stages whose artifact is there and up to date."""
        return {planned.name for planned in self if planned.action is Action.REUSE}

    @property
    def has_work(self) -> bool:
        return any(planned.action is not Action.REUSE for planned in self)
