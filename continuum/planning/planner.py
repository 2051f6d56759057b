"""Decide what to do about every stage, from the experiment and the state of its folder.

Nothing is written, torch is not imported and the network is not used. `run` acts on the plan that
`plan` prints.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from continuum.errors import Problem, UsageError
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import Ref
from continuum.experiment.forecast import Forecast
from continuum.experiment.identity import Identity, same_data_problems
from continuum.experiment.selection import as_recorded, best_problems_of
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
from continuum.planning.folder_state import FolderState
from continuum.planning.plan import (
    NOTHING_MORE,
    UNFINISHED,
    Action,
    Cause,
    Plan,
    PlannedStage,
    Reason,
    Request,
)
from continuum.preflight.disk import DiskBudget
from continuum.runs.artifacts import Artifact, TokenizerFiles
from continuum.runs.attempts import AttemptState
from continuum.suggestions import did_you_mean

ENDINGS = {cause.value: cause for cause in UNFINISHED}
"""By the state of a run's last attempt."""


def make_plan(experiment: Experiment, state: FolderState, request: Request = NOTHING_MORE) -> Plan:
    """Decide what to do about every stage.

    Args:
        state: What `read_folder` found for this experiment.

    Raises:
        UsageError: a stage to rerun does not exist.
    """
    planner = _Planner(state, request)
    for name, identity in state.identities.items():
        planner.add(name, identity)
    for name in sorted(request.rerun - planner.planned.keys()):
        hint = did_you_mean(name, planner.planned)
        raise UsageError(f"--rerun {name}: no stage with this name{hint}")
    return Plan(experiment, state, planner.planned, request)


class _Planner:
    def __init__(self, state: FolderState, request: Request) -> None:
        self.planned: dict[str, PlannedStage] = {}
        # Without missing data, which has no identity yet: two such datasets may turn out to differ.
        self._comparable: dict[str, Identity] = {}
        self._state, self._request, self._disk = state, request, DiskBudget()
        self._fingerprints = {name: it.fingerprint for name, it in state.identities.items()}

    def add(self, name: str, identity: Identity) -> None:
        """Plan a stage whose inputs are planned."""
        existing, lockfile = self._state.runs[name], self._state.lockfile
        refs = self._state.selections.get(name, ())
        planned = PlannedStage(
            name,
            identity,
            existing,
            existing.run,
            Forecast(),
            pins=lockfile.pins(name) if lockfile is not None else {},
            save_steps=tuple(sorted({ref.step for ref in refs if ref.step is not None})),
            best_metrics=tuple(sorted({ref.metric for ref in refs if ref.metric is not None})),
        )
        planned = self._decide(replace(planned, forecast=self._foresee(planned)))
        is_earlier = existing.record is not None and existing.record.fingerprint == identity.earlier
        if is_earlier and planned.action not in (Action.REUSE, Action.BLOCKED):
            # Keep the run of an earlier release, and make the stage again beside it.
            run = self._state.folder.run(name, identity.fingerprint)
            planned = replace(planned.does(Action.RUN, *planned.reasons), run=run)
        elif existing.is_begun and existing.run.stage_name != name:
            renamed = Reason(Cause.RENAMED, existing.run.stage_name)
            planned = replace(planned, reasons=(*planned.reasons, renamed))
        if planned.action is Action.REUSE:
            forecast = replace(planned.forecast, problems=(), warnings=(), notes=())
            planned = replace(planned, forecast=forecast)
        self.planned[name] = planned
        if planned.action is not Action.BLOCKED:
            self._comparable[name] = identity

    def _foresee(self, it: PlannedStage) -> Forecast:
        """Forecast the stage from its inputs, with every problem that is known before it runs."""
        inputs = {str(ref): self._input(ref) for ref in it.refs}
        same_data = same_data_problems(it.recipe, self._comparable)
        problems = (*same_data, *self._selection_problems(it.identity))
        forecast = it.stage.forecast(inputs, self._state.folder.path).with_problems(problems)
        if forecast.vocabulary is not None and not forecast.vocabulary.stage:
            own = replace(forecast.vocabulary, stage=it.name)
            forecast = replace(forecast, vocabulary=own)
        forecast = self._disk.claim(forecast, it.run, it.save_steps)
        texts = it.stage.texts(it.identity.payload.get("files", {}), it.pins)
        forecast = replace(forecast, texts=texts)
        known = PlanInput(it.stage, forecast, it.existing.artifact)
        return replace(forecast, texts=known.texts)

    def _input(self, ref: Ref[Any]) -> PlanInput:
        parent = self.planned[ref.stage]
        return parent.as_input(ref, self._state.artifact_of(ref))

    def _selection_problems(self, it: Identity) -> Iterator[Problem]:
        paths = {str(ref): path for path, ref in it.stage.refs().items()}
        for ref in it.refs:
            for problem in self._selection_problems_of(ref):
                yield problem.below(*paths.get(str(ref), ()))

    def _selection_problems_of(self, ref: Ref[Any]) -> Iterator[Problem]:
        parent = self.planned[ref.stage]
        is_kept = parent.action is not Action.RUN  # else what is there does not count
        record = parent.existing.record if is_kept else None
        run, found = parent.run.name, self._state.selected.get(str(ref))
        if ref.expects is TokenizerFiles and _lacks_tokenizer(self._input(ref)):
            message = (
                f"{ref.stage!r} has no tokenizer: its folder holds none beside the weights; name a "
                "stage that has one, or copy the tokenizer's files there"
            )
            yield Problem((), message, needs="folder")
        yield from best_problems_of(ref, parent.recipe, parent.forecast, run, record)
        if is_kept and isinstance(found, str):
            yield Problem((), found, needs="folder")
        if parent.action is Action.RECOVER:
            yield from self._renamed_problems(ref, parent)
        yield from parent.step_problems(ref)

    def _renamed_problems(self, ref: Ref[Any], parent: PlannedStage) -> Iterator[Problem]:
        """An interrupted run whose losses would go by two names has no best among them."""
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
            return it.does(Action.RUN, Reason(Cause.FORCED), replaces=there.is_begun)
        if there.damage:
            return it.does(Action.RUN, Reason(Cause.DAMAGED, there.damage[0]), replaces=True)
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
            return it.does(Action.RUN, *changed, replaces=True)
        again = self._rerun_inputs(it)
        if again:
            return it.does(Action.CHECK, *again)
        return it.does(Action.REUSE, Reason(Cause.COMPLETE))

    def _decide_begun(self, it: PlannedStage) -> PlannedStage:
        attempt = it.existing.attempt or AttemptState(Cause.INTERRUPTED.value)
        cause, how = ENDINGS.get(attempt.state, Cause.INTERRUPTED), attempt.how or None
        if not it.existing.saved_steps:
            return it.does(Action.RUN, Reason(cause, how))
        changed = self._changed_inputs(it)
        if changed:
            return it.does(Action.RUN, *changed, replaces=True)
        step = it.existing.saved_steps[-1]
        again, runtime = self._rerun_inputs(it), _changed_runtime(it)
        recovered = it.does(Action.RECOVER, Reason(cause, how, step), *again, *runtime)
        return replace(recovered, from_step=step)

    def _rerun_inputs(self, it: PlannedStage) -> list[Reason]:
        again = (ref for ref in it.identity.made_from if self.planned[ref.stage].will_rerun)
        return [Reason(Cause.UPSTREAM_RUNS_AGAIN, str(ref)) for ref in again]

    def _changed_inputs(self, it: PlannedStage) -> list[Change]:
        """Inputs whose content changed since the stage used them."""
        now = {str(ref): self._input(ref).artifact for ref in it.identity.made_from}
        return changed_inputs(it.existing.record, it.identity, now)


def _lacks_tokenizer(it: PlanInput) -> bool:
    if it.artifact is not None:
        return it.artifact.view(TokenizerFiles) is None
    return it.forecast.has_tokenizer is False


def _changed_runtime(it: PlannedStage) -> Iterator[Change]:
    """The `runtime` fields that differ from those of the last attempt."""
    before = stage_of(it.existing.record) if it.existing.record is not None else None
    if before is not None:
        found = changes(of_fields(before), of_fields(it.stage), ("field",))
        yield from (change for change in found if change.role == "runtime")
