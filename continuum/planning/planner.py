"""Decide what to do about every stage.

First the identities of all stages, then one look into the folder, then a decision from these values
alone. Nothing is written, no torch imported, no network asked. `run` acts on the very plan that
`plan` prints.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from continuum.errors import UsageError
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import Ref
from continuum.experiment.identity import Identity, identify_stages, same_data_problems
from continuum.experiment.selection import as_recorded, best_problems_of, selecting
from continuum.experiment.stage import PlanInput
from continuum.planning.changes import (
    Change,
    changed_inputs,
    changes,
    explain,
    of_fields,
    of_values,
    stage_of,
)
from continuum.planning.existing import History, read_existing
from continuum.planning.lockfile import read_lock
from continuum.planning.plan import NOTHING_MORE, Action, Cause, Plan, PlannedStage, Reason, Request
from continuum.preflight.disk import DiskBudget
from continuum.problems import Problem
from continuum.runs.artifacts import Artifact
from continuum.runs.files import DigestCache
from continuum.runs.folder import ExperimentFolder
from continuum.suggestions import did_you_mean


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
    planner = _Planner(experiment, folder, digests, request)
    for name in planner.identities:
        planner.add(name)
    return Plan(experiment, folder, planner.planned, planner.history, request, planner.lock)


class _Planner:
    def __init__(
        self,
        experiment: Experiment,
        folder: ExperimentFolder,
        digests: DigestCache,
        request: Request,
    ) -> None:
        self.planned: dict[str, PlannedStage] = {}
        self.history = History(folder)
        self.identities = identify_stages(experiment, folder.path, digests.sha256)
        lock, known = read_lock(folder.pins_path), self.identities.items()
        self.lock = lock and lock.renamed({name: it.known_by for name, it in known})
        self._selecting = selecting(ref for _, it in known for ref in it.refs)
        locked = self.lock.stages if self.lock is not None else {}
        self._existing = read_existing(self.history, self.identities, locked, self._selecting)
        self._fingerprints = {name: it.fingerprint for name, it in known}
        self._folder, self._request, self._disk = folder, request, DiskBudget()

    def add(self, name: str) -> None:
        it, there = self.identities[name], self._existing[name]
        pins = self.lock.pins(name) if self.lock is not None else {}
        forecast = it.stage.forecast({str(r): self._input(r) for r in it.refs}, self._folder.path)
        forecast = forecast.with_problems(same_data_problems(it.recipe, self.identities))
        forecast = forecast.with_problems(self._selection_problems(it))
        asked = self._selecting.get(name, ())
        save_steps = tuple(sorted({ref.step for ref in asked if ref.step is not None}))
        best_metrics = tuple(sorted({ref.metric for ref in asked if ref.metric is not None}))
        forecast = self._disk.claim(forecast, there.run, save_steps)
        texts = it.stage.texts(it.payload.get("files", {}), pins)
        forecast = replace(forecast, texts=texts)
        forecast = replace(forecast, texts=PlanInput(it.stage, forecast, there.artifact).texts)
        found = PlannedStage(name, it, there, there.run, forecast, pins, save_steps, best_metrics)
        found = self._decide(found)
        is_earlier = there.record is not None and there.record.fingerprint == it.earlier
        if is_earlier and found.action not in (Action.REUSE, Action.BLOCKED):
            # A run of an earlier release is left alone, and made anew beside it.
            run = self._folder.run(name, it.fingerprint)
            found = replace(found.does(Action.RUN, *found.reasons), run=run)
        elif there.is_begun and there.run.stage_name != name:
            renamed = Reason(Cause.RENAMED, there.run.stage_name)
            found = replace(found, reasons=(*found.reasons, renamed))
        if found.action is Action.REUSE:  # there is nothing left to doubt
            found = replace(found, forecast=replace(forecast, problems=(), warnings=(), notes=()))
        self.planned[name] = found

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

    def _decide(self, it: PlannedStage) -> PlannedStage:
        there, is_forced = it.existing, it.name in self._request.rerun
        if there.artifact is not None and not is_forced:
            return self._decide_complete(it, there.artifact)
        blocked = (r.stage for r in it.refs if self.planned[r.stage].action is Action.BLOCKED)
        waits = [Reason(Cause.WAITS_FOR, stage) for stage in blocked]
        refused = [problem for problem in it.forecast.problems if problem.needs != "machine"]
        if refused or waits:
            problems = (Reason(Cause.PROBLEM, str(problem)) for problem in refused)
            return it.does(Action.BLOCKED, *problems, *waits)
        if is_forced:
            return it.does(Action.RUN, Reason(Cause.FORCED), archive=there.is_begun)
        if there.damage:
            return it.does(Action.RUN, Reason(Cause.DAMAGED, there.damage[0]), archive=True)
        if there.is_begun:
            return self._decide_begun(it)
        if there.latest is None:
            return it.does(Action.RUN, Reason(Cause.NEVER_RUN))
        return it.does(Action.RUN, *explain(there.latest, it.identity))

    def _decide_complete(self, it: PlannedStage, artifact: Artifact) -> PlannedStage:
        used = it.stage.pins(artifact) if it.pins else {}
        pins = {source: pin for source, pin in it.pins.items() if source in used}
        used = {source: used[source] for source in pins}
        changed = (
            *self._changed_inputs(it),
            *changes(of_values("pin", used), of_values("pin", pins), ("pin",)),
        )
        if changed:
            return it.does(Action.RUN, *changed, archive=True)
        again = self._made_again(it)
        if again:
            return it.does(Action.CHECK, *again)
        return it.does(Action.REUSE, Reason(Cause.COMPLETE))

    def _decide_begun(self, it: PlannedStage) -> PlannedStage:
        if not it.existing.saved_steps:
            return it.does(Action.RUN, Reason(Cause.INTERRUPTED))
        changed = self._changed_inputs(it)
        if changed:
            return it.does(Action.RUN, *changed, archive=True)
        step = it.existing.saved_steps[-1]
        again, runtime = self._made_again(it), _changed_runtime(it)
        recovered = it.does(Action.RECOVER, Reason(Cause.INTERRUPTED, step), *again, *runtime)
        return replace(recovered, from_step=step)

    def _made_again(self, it: PlannedStage) -> list[Reason]:
        again = (ref for ref in it.identity.made_from if self.planned[ref.stage].is_made_again)
        return [Reason(Cause.UPSTREAM_RUNS_AGAIN, str(ref)) for ref in again]

    def _changed_inputs(self, it: PlannedStage) -> list[Change]:
        """Inputs that were made again, with other bytes, since the stage used them."""
        now = {str(ref): self._input(ref).artifact for ref in it.identity.made_from}
        return changed_inputs(it.existing.record, it.identity, now)


def _changed_runtime(it: PlannedStage) -> Iterator[Change]:
    """How the work is done now, where that differs from the attempt before."""
    before = stage_of(it.existing.record) if it.existing.record is not None else None
    if before is not None:
        found = changes(of_fields(before), of_fields(it.stage), ("field",))
        yield from (change for change in found if change.role == "runtime")
