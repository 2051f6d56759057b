"""Decide what to do about every stage.

First the identities of all stages, then one look into the folder, then a decision from these values
alone. Nothing is written, no torch imported, no network asked. `run` acts on the very plan that
`plan` prints.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from continuum.artifacts import Artifact
from continuum.changes import (
    Change,
    changes,
    explain,
    of_fields,
    of_inputs,
    of_pins,
    of_used,
    stage_of,
)
from continuum.errors import UsageError
from continuum.existing import Existing, read_existing
from continuum.files import DigestCache
from continuum.identity import Identity, identify_stages, same_data_problems
from continuum.lock import Lock, read_lock
from continuum.plan import NOTHING_MORE, Action, Cause, Plan, PlannedStage, Reason, Request
from continuum.preflight.disk import DiskBudget
from continuum.problems import Problem
from continuum.runs import ExperimentFolder, StageRun
from continuum.selection import as_recorded, best_problems_of, selected_metrics, selected_steps
from continuum.spec.experiment import Experiment
from continuum.spelling import did_you_mean
from continuum.stage import Forecast, PlanInput, Ref


def make_plan(
    experiment: Experiment,
    folder: ExperimentFolder,
    digests: DigestCache,
    request: Request = NOTHING_MORE,
) -> Plan:
    """Decide what to do about every stage.

    Args:
        digests: Remembers the hashes of local files; the plan reads it and does not save it.

    Raises:
        UsageError: the request names a stage that does not exist.
        IntegrityError: the lock cannot be read.
    """
    for name in sorted(request.rerun - experiment.stages.keys()):
        hint = did_you_mean(name, experiment.stages)
        raise UsageError(f"--rerun {name}: there is no stage of this name{hint}")
    identities = identify_stages(experiment, folder.path, digests.sha256)
    lock = read_lock(folder.pins_path)
    if lock is not None:
        lock = lock.renamed({name: it.known_by for name, it in identities.items()})
    existing = read_existing(folder, identities, lock.stages if lock is not None else {})
    planner = _Planner(experiment, folder, request, lock, identities, existing)
    for name in identities:
        planner.add(name)
    return Plan(experiment, folder, planner.planned, request, lock)


@dataclass(frozen=True)
class _Candidate:
    """A stage while it is decided what to do about it."""

    name: str
    identity: Identity
    existing: Existing
    inputs: Mapping[str, Artifact | None]
    """Those that are there, by reference."""
    forecast: Forecast
    pins: Mapping[str, str]


@dataclass(frozen=True)
class _Decision:
    action: Action
    reasons: tuple[Reason | Change, ...]
    archive: bool = False
    from_step: int | None = None


class _Planner:
    def __init__(
        self,
        experiment: Experiment,
        folder: ExperimentFolder,
        request: Request,
        lock: Lock | None,
        identities: Mapping[str, Identity],
        existing: Mapping[str, Existing],
    ) -> None:
        self.planned: dict[str, PlannedStage] = {}
        self._folder = folder
        self._request = request
        self._lock = lock
        self._identities = identities
        self._existing = existing
        self._fingerprints = {name: it.fingerprint for name, it in identities.items()}
        self._save_steps = selected_steps(experiment.stages)
        self._best_metrics = selected_metrics(experiment.stages)
        self._disk = DiskBudget()

    def add(self, name: str) -> None:
        it, there = self._identities[name], self._existing[name]
        inputs = {str(ref): self._input(ref) for ref in it.refs}
        save_steps = self._save_steps.get(name, ())
        pins = self._lock.pins(name) if self._lock is not None else {}
        forecast = it.stage.forecast(inputs, self._folder.path)
        forecast = forecast.with_problems(same_data_problems(it.recipe, self._identities))
        forecast = forecast.with_problems(self._selection_problems(it))
        forecast = self._disk.claim(forecast, there.run, save_steps)
        texts = it.stage.texts(it.payload.get("files", {}), pins)
        forecast = replace(forecast, texts=texts)
        forecast = replace(forecast, texts=PlanInput(it.stage, forecast, there.artifact).texts)
        artifacts = {ref: found.artifact for ref, found in inputs.items()}
        decision = self._decide(_Candidate(name, it, there, artifacts, forecast, pins))
        run = there.run
        is_earlier = there.record is not None and there.record.fingerprint == it.earlier
        if is_earlier and decision.action not in (Action.REUSE, Action.BLOCKED):
            # A run of an earlier release is left alone, and made anew beside it.
            run = self._folder.run(name, it.fingerprint)
            decision = _Decision(Action.RUN, decision.reasons)
        if decision.action is Action.REUSE:  # there is nothing left to doubt
            forecast = replace(forecast, problems=(), warnings=(), notes=())
        self.planned[name] = PlannedStage(
            name=name,
            identity=it,
            existing=there,
            run=run,
            action=decision.action,
            reasons=(*decision.reasons, *_renamed(name, there, run)),
            forecast=forecast,
            pins=pins,
            save_steps=save_steps,
            best_metrics=self._best_metrics.get(name, ()),
            archive=decision.archive,
            from_step=decision.from_step,
        )

    def _input(self, ref: Ref[Any]) -> PlanInput:
        parent = self.planned[ref.stage]
        return parent.as_input(ref, parent.existing.artifact_of(ref))

    def _selection_problems(self, it: Identity) -> Iterator[Problem]:
        paths = {str(ref): path for path, ref in it.stage.refs().items()}
        for ref in it.refs:
            for problem in self._selection_problems_of(ref):
                yield problem.below(*paths.get(str(ref), ()))

    def _selection_problems_of(self, ref: Ref[Any]) -> Iterator[Problem]:
        parent = self.planned[ref.stage]
        # What is made anew has no past: what it will be asked for is known when it begins.
        is_kept = parent.action is not Action.RUN
        record = parent.existing.record if is_kept else None
        run, found = parent.run.name, parent.existing.selected.get(str(ref))
        yield from best_problems_of(ref, parent.recipe, parent.forecast, run, record)
        if is_kept and isinstance(found, str):
            yield Problem((), found, needs="folder")
        if parent.action is Action.RECOVER:
            yield from self._renamed_problems(ref, parent)
        yield from parent.step_problems(ref)

    def _renamed_problems(self, ref: Ref[Any], parent: PlannedStage) -> Iterator[Problem]:
        """Half of the losses under one name and half under another have no best."""
        recorded = as_recorded(ref, parent.existing.record, self._fingerprints)
        if recorded != ref:
            yield Problem(
                (),
                f"{ref!r}: {ref.stage} was interrupted when the dataset had another name "
                f"({recorded.metric}); give it that name until {ref.stage} is complete",
                needs="folder",
            )

    def _decide(self, it: _Candidate) -> _Decision:
        there, is_forced = it.existing, it.name in self._request.rerun
        if there.artifact is not None and not is_forced:
            return self._decide_complete(it, there.artifact)
        waiting = [
            ref.stage
            for ref in it.identity.refs
            if self.planned[ref.stage].action is Action.BLOCKED
        ]
        refused = [problem for problem in it.forecast.problems if problem.needs != "machine"]
        if refused or waiting:
            problems = (Reason(Cause.PROBLEM, str(problem)) for problem in refused)
            waits = (Reason(Cause.WAITS_FOR, stage) for stage in waiting)
            return _Decision(Action.BLOCKED, (*problems, *waits))
        if is_forced:
            return _Decision(Action.RUN, (Reason(Cause.FORCED),), archive=there.is_begun)
        if there.damage:
            reason = Reason(Cause.DAMAGED, there.damage[0])
            return _Decision(Action.RUN, (reason,), archive=True)
        if there.is_begun:
            return self._decide_begun(it)
        if there.latest is None:
            return _Decision(Action.RUN, (Reason(Cause.NEVER_RUN),))
        return _Decision(Action.RUN, explain(there.latest, it.identity))

    def _decide_complete(self, it: _Candidate, artifact: Artifact) -> _Decision:
        used = it.identity.stage.pins(artifact) if it.pins else {}
        pins = {source: pin for source, pin in it.pins.items() if source in used}
        used = {source: used[source] for source in pins}
        changed = (*_changed_inputs(it), *changes(of_pins(used), of_pins(pins), ("pin",)))
        if changed:
            return _Decision(Action.RUN, changed, archive=True)
        again = self._made_again(it)
        if again:
            return _Decision(Action.CHECK, again)
        return _Decision(Action.REUSE, (Reason(Cause.COMPLETE),))

    def _decide_begun(self, it: _Candidate) -> _Decision:
        if not it.existing.saved_steps:
            return _Decision(Action.RUN, (Reason(Cause.INTERRUPTED),))
        changed = _changed_inputs(it)
        if changed:
            return _Decision(Action.RUN, changed, archive=True)
        step = it.existing.saved_steps[-1]
        interrupted = Reason(Cause.INTERRUPTED, step)
        reasons: tuple[Reason | Change, ...] = (*self._made_again(it), *_changed_runtime(it))
        return _Decision(Action.RECOVER, (interrupted, *reasons), from_step=step)

    def _made_again(self, it: _Candidate) -> tuple[Reason, ...]:
        again = (ref for ref in it.identity.made_from if self.planned[ref.stage].is_made_again)
        return tuple(Reason(Cause.UPSTREAM_RUNS_AGAIN, str(ref)) for ref in again)


def _changed_inputs(it: _Candidate) -> tuple[Change, ...]:
    """Inputs that were made again, with other bytes, since the stage used them."""
    record = it.existing.record
    used = of_used(record, it.identity) if record is not None else {}
    return tuple(changes(used, of_inputs(it.inputs), ("digest",)))


def _changed_runtime(it: _Candidate) -> Iterator[Change]:
    """How the work is done now, where that differs from the attempt before."""
    before = stage_of(it.existing.record) if it.existing.record is not None else None
    if before is not None:
        found = changes(of_fields(before), of_fields(it.identity.stage), ("field",))
        yield from (change for change in found if change.role == "runtime")


def _renamed(name: str, there: Existing, run: StageRun) -> Iterator[Reason]:
    """That the stage had another name when its run began."""
    if run is there.run and there.is_begun and run.stage_name != name:
        yield Reason(Cause.RENAMED, run.stage_name)
