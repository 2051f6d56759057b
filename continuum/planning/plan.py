"""What a run would do, and why.

`planner` makes it, `continuum plan` prints it, and `executor` carries it out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from continuum.errors import Problem
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import Ref, Spec
from continuum.experiment.forecast import Forecast
from continuum.experiment.identity import Identity
from continuum.experiment.selection import step_problems
from continuum.experiment.stage import PlanInput, Stage
from continuum.planning.changes import Change
from continuum.planning.folder_state import FolderState
from continuum.planning.lockfile import Lockfile
from continuum.runs.artifacts import Artifact
from continuum.runs.attempts import AttemptState
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.runs.run_state import RunHistory, RunState


class Action(StrEnum):
    """What a run does with a stage."""

    RUN = "run"
    RECOVER = "recover"
    CHECK = "check"
    """Reuse it if its inputs, which will be rebuilt, come out identical; else run it."""
    REUSE = "reuse"
    BLOCKED = "blocked"


class Cause(StrEnum):
    """Why a plan takes an action, other than a change; the values are codes in JSON."""

    COMPLETE = "complete"
    NEVER_RUN = "never-run"
    RENAMED = "renamed"
    UPSTREAM_RUNS_AGAIN = "upstream-runs-again"
    INTERRUPTED = "interrupted"
    """Its `continuum run` was killed."""
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    CRASHED = "crashed"
    KILLED = "killed"
    REFUSED = "refused"
    FOUND_DAMAGE = "damaged"
    """Its last attempt did."""
    DAMAGED = "artifact-damaged"
    FORCED = "forced"
    PROBLEM = "problem"
    WAITS_FOR = "waits-for"


_WORDS: Mapping[Cause, tuple[str, str]] = {
    Cause.COMPLETE: ("", "complete"),
    Cause.NEVER_RUN: ("", "never run"),
    Cause.RENAMED: ("old", "renamed: it ran as {}"),
    Cause.UPSTREAM_RUNS_AGAIN: (
        "ref", "{} will be rebuilt; reused if the output is identical"
    ),
    Cause.DAMAGED: ("what", "damaged: {}"),
    Cause.FORCED: ("", "requested by --rerun"),
    Cause.PROBLEM: ("problem", "{}"),
    Cause.WAITS_FOR: ("stage", "waits for {}"),
}  # fmt: skip
"""The key of the detail in JSON, and the text around it."""
UNFINISHED = frozenset(Cause) - _WORDS.keys()
"""How the last attempt of a run ended that is not complete, or that it runs now."""


@dataclass(frozen=True)
class Reason:
    """A reason other than a change."""

    cause: Cause
    detail: str | None = None
    """The earlier name, the reference, the damage, the problem, the stage, or how the last attempt
    ended."""
    step: int | None = None
    """The step that an unfinished run resumes from."""

    @property
    def code(self) -> str:
        return self.cause.value

    def __str__(self) -> str:
        if self.cause in UNFINISHED:
            how = f": {self.detail}" if self.detail else ""
            start = "starts over" if self.step is None else f"resumes from step {self.step:,}"
            return f"{self.cause.value}{how}; {start}"
        return _WORDS[self.cause][1].format(self.detail)

    def as_json(self) -> dict[str, Any]:
        """The code, the text, and the detail."""
        document = {"code": self.code, "text": str(self)}
        if self.cause in UNFINISHED:
            return {**document, "step": self.step, **({"how": self.detail} if self.detail else {})}
        key = _WORDS[self.cause][0]
        return {**document, **({key: self.detail} if key else {})}


@dataclass(frozen=True)
class Request:
    """What the user asks for beside the spec."""

    overrides: tuple[str, ...] = ()
    """`PATH=VALUE` texts, already applied to the spec."""
    rerun: frozenset[str] = frozenset()
    """Stages to run again though nothing has changed."""
    locked: bool = False
    """Whether to refuse any deviation from `continuum.lock`."""


NOTHING_MORE = Request()
"""The request of a command that is given only a spec."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its identity, its run folder, and the action to take."""

    name: str
    identity: Identity
    existing: RunState
    run: StageRun
    """The folder it runs in, existing or new."""
    forecast: Forecast
    pins: Mapping[str, str]
    """The pins of its sources in `continuum.lock`."""
    save_steps: tuple[int, ...]
    """Steps that other stages select."""
    best_metrics: tuple[str, ...]
    """Metrics by which other stages select its best checkpoint."""
    action: Action = Action.RUN
    reasons: tuple[Reason | Change, ...] = ()
    must_replace: bool = False
    """Whether to archive the existing run first."""
    from_step: int | None = None
    """The optimizer step that a recovery resumes from."""

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
        self, action: Action, *reasons: Reason | Change, replaces: bool = False
    ) -> "PlannedStage":
        """The stage with an action and the reasons for it."""
        return replace(self, action=action, reasons=reasons, must_replace=replaces, from_step=None)

    @property
    def state(self) -> AttemptState:
        """`complete`, `damaged`, `blocked`, `not begun`, or that of its unfinished run."""
        existing = self.existing
        if existing.attempt is not None and existing.attempt.is_running:
            return existing.attempt
        if self.action is Action.BLOCKED:
            return AttemptState("blocked")
        if existing.damage:
            return AttemptState("damaged", existing.damage[0])
        if existing.artifact is not None:
            return AttemptState("complete")
        if not existing.is_begun:
            return AttemptState("not begun")
        return existing.attempt or AttemptState("interrupted")

    @property
    def will_rerun(self) -> bool:
        """Whether the content of its artifact may change."""
        return self.action in (Action.RUN, Action.RECOVER, Action.CHECK)

    def as_input(self, ref: Ref[Any], artifact: Artifact | None) -> PlanInput:
        """The stage as the input of another.

        Args:
            artifact: The artifact that the reference means, if it exists.
        """
        view = artifact.view(ref.expects) if artifact is not None else None
        return PlanInput(self.stage, self.forecast, view, self.recipe)

    def step_problems(self, ref: Ref[Any]) -> Iterator[Problem]:
        """Why the step that `ref` selects will not be saved, if the stage still has to run."""
        if ref.step is None or self.action in (Action.REUSE, Action.CHECK):
            return
        last_step = self.forecast.num_steps
        if last_step is not None:
            first_step = last_step - self.forecast.facts.get("steps", last_step) + 1
            if found := [*step_problems(ref, range(first_step, last_step + 1))]:
                yield from found
                return
        saved = self.existing.saved_steps
        if self.from_step is not None and ref.step <= self.from_step and ref.step not in saved:
            yield Problem(
                (),
                f"{ref!r}: {self.name} resumes from step {self.from_step:,} and has no checkpoint "
                f"of step {ref.step:,}; it has {', '.join(map(str, saved))}",
                needs="folder",
            )


@dataclass(frozen=True)
class Plan:
    """The stages in an order in which they can run."""

    experiment: Experiment
    state: FolderState
    """The folder when the plan was made."""
    stages: Mapping[str, PlannedStage]
    request: Request = NOTHING_MORE

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages.values())

    @property
    def folder(self) -> ExperimentFolder:
        return self.state.folder

    @property
    def history(self) -> RunHistory:
        return self.state.history

    @property
    def lockfile(self) -> Lockfile | None:
        return self.state.lockfile

    @property
    def problems(self) -> list[Problem]:
        """Errors for which a run is refused, by paths of the experiment."""
        found = ((planned.name, it) for planned in self for it in planned.forecast.problems)
        return [problem.below("stages", name) for name, problem in found]

    @property
    def warnings(self) -> list[Problem]:
        """What will probably go wrong, by paths of the experiment."""
        found = ((planned.name, it) for planned in self for it in planned.forecast.warnings)
        return [problem.below("stages", name) for name, problem in found]

    def undecided_tokenizers(self) -> dict[str, set[str]]:
        """For each training, the tokenizers that may differ in a training that depends on it."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for it in reversed(tuple(self)):
            inputs = (self.stages[r.stage].as_input(r, self.state.artifact_of(r)) for r in it.refs)
            known = [vocabulary for i in inputs if (vocabulary := i.vocabulary) is not None]
            if it.stage.trains and any(v.differs_from(known[0]) is None for v in known):
                found[it.name] |= {vocabulary.stage for vocabulary in known}
            for ref in it.refs:
                found[ref.stage] |= found[it.name]
        return {name: stages for name, stages in found.items() if self.stages[name].stage.trains}

    @property
    def reused(self) -> set[str]:
        """The stages that are complete and up to date."""
        return {planned.name for planned in self if planned.action is Action.REUSE}

    @property
    def has_work(self) -> bool:
        """Whether a run would do anything."""
        return any(planned.action is not Action.REUSE for planned in self)
