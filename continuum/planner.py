"""Decide what to do about every stage.

Pure: reads the experiment and the folder's records, writes nothing, imports no torch, and asks no
network. `run` acts on the very plan that `plan` prints.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from continuum.artifacts import Artifact
from continuum.digest_cache import DigestCache
from continuum.errors import IntegrityError, UsageError
from continuum.files import find_damage
from continuum.history import History, explain_change, stage_of
from continuum.identity import Identity, RunFinder, identify, same_data_problems
from continuum.lock import Lock, LockedStage, read_lock
from continuum.plan import NOTHING_MORE, Action, Plan, PlannedStage, Request
from continuum.preflight.disk import DiskBudget
from continuum.problems import Problem
from continuum.reasons import (
    ArtifactDamaged,
    CannotWork,
    Complete,
    Forced,
    InputChanged,
    Interrupted,
    NeverRun,
    PinChanged,
    Reason,
    Renamed,
    UpstreamRunsAgain,
    WaitsFor,
    changed_fields,
)
from continuum.records import StageRecord
from continuum.runs import ExperimentFolder, StageRun
from continuum.selection import (
    as_recorded,
    best_problems_of,
    gone_problems,
    selected_metrics,
    selected_steps,
)
from continuum.spec.experiment import Experiment
from continuum.spelling import did_you_mean
from continuum.stage import Forecast, PlanInput, Ref, Spec, Stage, select_checkpoint


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
    for name in experiment.in_order():
        planner.add(name)
    return Plan(experiment, folder, planner.planned, request, planner.lock_of_today())


@dataclass(frozen=True)
class _Candidate:
    """A stage while it is decided what to do about it."""

    name: str
    stage: Stage
    refs: tuple[Ref[Any], ...]
    """All inputs."""
    made_from: tuple[Ref[Any], ...]
    """Those whose bytes count, without what is only evaluated on."""
    identity: Identity
    run: StageRun
    forecast: Forecast
    artifact: Artifact | None
    """What is there and whole."""
    record: StageRecord | None
    """Of a run that has begun and whose records are whole."""
    damage: list[str]
    pins: Mapping[str, str]


@dataclass(frozen=True)
class _Decision:
    action: Action
    reasons: tuple[Reason, ...]
    archive: bool = False
    from_step: int | None = None


class _Planner:
    def __init__(
        self,
        experiment: Experiment,
        folder: ExperimentFolder,
        digests: DigestCache,
        request: Request,
    ) -> None:
        self.planned: dict[str, PlannedStage] = {}
        self.lock = read_lock(folder.pins_path)
        self._experiment = experiment
        self._folder = folder
        self._digests = digests
        self._request = request
        self._artifacts: dict[str, Artifact | None] = {}
        self._history = History(folder)
        self._selected = selected_steps(experiment.stages)
        self._disk = DiskBudget()
        self._best_metrics = selected_metrics(experiment.stages)
        self._identities: dict[str, Identity] = {}
        self._fingerprints: dict[str, str] = {}
        self._finder = RunFinder(folder, experiment.stages)

    def add(self, name: str) -> None:
        stage: Stage = self._experiment.stages[name].seeded(self._experiment.all_seeds())
        own_refs = {ref.stage for ref in stage.refs().values()}
        recipe = stage.recipe({parent: self.planned[parent].recipe for parent in own_refs})
        refs = input_refs(stage, recipe)
        observed = stage.observed(recipe)
        made_from = tuple(ref for ref in refs if ref not in observed)
        identity = self._identify(name, stage, refs, recipe)
        run = self._finder.find(name, identity)
        inputs = {str(ref): self._input(ref) for ref in refs}
        forecast = stage.forecast(inputs, self._folder.path)
        forecast = forecast.with_problems(same_data_problems(recipe, self._identities))
        forecast = forecast.with_problems(self._selection_problems(stage, refs))
        forecast = self._disk.claim(forecast, run, self._selected.get(name, ()))
        locked = self.lock.entry(name, identity.known_by) if self.lock is not None else None
        record, artifact, damage = _what_is_there(run, locked)
        self._artifacts[name] = artifact
        pins = dict(locked.pins) if locked is not None else {}
        files = identity.payload.get("files", {})
        forecast = replace(forecast, texts=stage.texts(files, pins))
        forecast = replace(forecast, texts=PlanInput(stage, forecast, artifact).texts)
        decision = self._decide(
            _Candidate(
                name,
                stage,
                refs,
                made_from,
                identity,
                run,
                forecast,
                artifact,
                record,
                damage,
                pins,
            )
        )
        if record is not None and record.fingerprint == identity.earlier:
            decision, run = self._with_earlier(name, decision, run)
        self.planned[name] = PlannedStage(
            name=name,
            stage=stage,
            recipe=recipe,
            refs=refs,
            fingerprint=identity.fingerprint,
            identity=identity.payload,
            run=run,
            action=decision.action,
            reasons=(*decision.reasons, *_renamed(name, run)),
            forecast=forecast if decision.action is not Action.REUSE else _proved(forecast),
            pins=pins,
            save_steps=self._selected.get(name, ()),
            best_metrics=self._best_metrics.get(name, ()),
            earlier=identity.earlier,
            archive=decision.archive,
            from_step=decision.from_step,
        )

    def _identify(
        self, name: str, stage: Stage, refs: tuple[Ref[Any], ...], recipe: Spec | None
    ) -> Identity:
        local = {
            name: self._digests.sha256(path)
            for name, path in stage.local_inputs(self._folder.path).items()
        }
        around: dict[str, Any] = {"files": local} if local else {}
        found = identify(stage, refs, recipe, self._identities, around)
        self._identities[name], self._fingerprints[name] = found, found.fingerprint
        return found

    def lock_of_today(self) -> Lock | None:
        """The lock with the names that the stages have now."""
        known_by = {name: it.known_by for name, it in self._identities.items()}
        return self.lock.renamed(known_by) if self.lock is not None else None

    def _with_earlier(
        self, name: str, decision: _Decision, run: StageRun
    ) -> tuple[_Decision, StageRun]:
        """A run of an earlier release is reused as it is, or left alone and made anew beside it."""
        if decision.action in (Action.REUSE, Action.BLOCKED):
            return decision, run
        new = self._folder.run(name, self._identities[name].fingerprint)
        return _Decision(Action.RUN, decision.reasons), new

    def _input(self, ref: Ref[Any]) -> PlanInput:
        parent = self.planned[ref.stage]
        artifact = self._artifacts[ref.stage]
        if artifact is not None:
            artifact = select_checkpoint(artifact, self._as_recorded(ref), parent.run)
        view = artifact.view(ref.expects) if artifact is not None else None
        return PlanInput(parent.stage, parent.forecast, view, parent.recipe)

    def _selection_problems(self, stage: Stage, refs: tuple[Ref[Any], ...]) -> Iterator[Problem]:
        paths = {str(ref): path for path, ref in stage.refs().items()}
        for ref in refs:
            for problem in self._selection_problems_of(ref):
                yield problem.below(*paths.get(str(ref), ()))

    def _selection_problems_of(self, ref: Ref[Any]) -> Iterator[Problem]:
        parent = self.planned[ref.stage]
        # What is made anew has no past: what it will be asked for is known when it begins.
        run = None if parent.action is Action.RUN else parent.run
        made = self._artifacts[ref.stage]
        recorded = ref if made is None else self._as_recorded(ref)
        yield from best_problems_of(ref, self._input(ref), run)
        if made is not None and run is not None:
            yield from gone_problems(recorded, made, run)
        if parent.action is Action.RECOVER:
            yield from self._renamed_problems(ref)
        yield from parent.step_problems(ref)

    def _as_recorded(self, ref: Ref[Any]) -> Ref[Any]:
        return as_recorded(ref, self.planned[ref.stage].run, self._fingerprints)

    def _renamed_problems(self, ref: Ref[Any]) -> Iterator[Problem]:
        """Half of the losses under one name and half under another have no best."""
        recorded = self._as_recorded(ref)
        if recorded != ref:
            yield Problem(
                (),
                f"{ref!r}: {ref.stage} was interrupted when the dataset had another name "
                f"({recorded.metric}); give it that name until {ref.stage} is complete",
                needs="folder",
            )

    def _decide(self, it: _Candidate) -> _Decision:
        if it.artifact is not None and it.name not in self._request.rerun:
            return self._decide_complete(it, it.artifact)
        waiting = [r.stage for r in it.refs if self.planned[r.stage].action is Action.BLOCKED]
        if it.forecast.problems or waiting:
            problems = (CannotWork(str(problem)) for problem in it.forecast.problems)
            return _Decision(Action.BLOCKED, (*problems, *map(WaitsFor, waiting)))
        if it.name in self._request.rerun:
            return _Decision(Action.RUN, (Forced(),), archive=it.run.is_begun)
        if it.damage:
            return _Decision(Action.RUN, (ArtifactDamaged(it.damage[0]),), archive=True)
        if it.run.is_begun:
            return self._decide_begun(it)
        return _Decision(Action.RUN, self._why_new(it))

    def _decide_complete(self, it: _Candidate, artifact: Artifact) -> _Decision:
        changed = (*self._changed_inputs(it), *_changed_pins(it, artifact))
        if changed:
            return _Decision(Action.RUN, changed, archive=True)
        again = self._made_again(it)
        if again:
            return _Decision(Action.CHECK, again)
        return _Decision(Action.REUSE, (Complete(),))

    def _decide_begun(self, it: _Candidate) -> _Decision:
        saved = it.run.checkpoints()
        if not saved:
            return _Decision(Action.RUN, (Interrupted(None),))
        changed = self._changed_inputs(it)
        if changed:
            return _Decision(Action.RUN, changed, archive=True)
        step = saved[-1].manifest.step
        return _Decision(
            Action.RECOVER,
            (Interrupted(step), *self._made_again(it), *_changed_runtime(it)),
            from_step=step,
        )

    def _made_again(self, it: _Candidate) -> tuple[Reason, ...]:
        again = (ref for ref in it.made_from if self.planned[ref.stage].is_made_again)
        return tuple(UpstreamRunsAgain(str(ref)) for ref in again)

    def _changed_inputs(self, it: _Candidate) -> tuple[Reason, ...]:
        """Inputs that were made again, with other bytes, since the stage used them."""
        changed = []
        for ref in it.made_from:
            artifact = self._input(ref).artifact
            known_by = self._identities[ref.stage].fingerprint
            used = it.record.input(ref, known_by) if it.record is not None else None
            if artifact is not None and used is not None and used.digest != artifact.digest:
                changed.append(InputChanged(str(ref), used.digest, artifact.digest))
        return tuple(changed)

    def _why_new(self, it: _Candidate) -> tuple[Reason, ...]:
        latest = self._history.latest(it.name)
        if latest is None:
            return (NeverRun(),)
        return explain_change(latest, it.stage, it.identity, self._identities)


def _renamed(name: str, run: StageRun) -> Iterator[Reason]:
    """That the stage had another name when its run began."""
    if run.is_begun and run.stage_name != name:
        yield Renamed(run.stage_name)


def _changed_pins(it: _Candidate, artifact: Artifact) -> Iterator[Reason]:
    """Sources that the lock pins to something else than the artifact was made from."""
    if it.pins:
        used = it.stage.pins(artifact)
        for source, pin in it.pins.items():
            if used.get(source, pin) != pin:
                yield PinChanged(source, used[source], pin)


def _changed_runtime(it: _Candidate) -> Iterator[Reason]:
    """How the work is done now, where that differs from the attempt before."""
    before = stage_of(it.record) if it.record is not None else None
    if before is not None:
        changes = changed_fields(before, it.stage)
        yield from (change for change in changes if change.role == "runtime")


def input_refs(stage: Stage, recipe: Spec | None) -> tuple[Ref[Any], ...]:
    """A stage's references and, for a resume, the datasets its recipe inherits."""
    refs: dict[str, Ref[Any]] = {str(ref): ref for ref in stage.refs().values()}
    if recipe is not None:
        refs |= {str(ref): ref for ref in recipe.refs().values()}
    return tuple(refs.values())


def _what_is_there(
    run: StageRun, locked: LockedStage | None
) -> tuple[StageRecord | None, Artifact | None, list[str]]:
    """A run's record, what it made if that is finished and whole, and else what is wrong."""
    if not run.is_complete and not run.is_begun:
        return None, None, []
    try:
        record = run.record()
        if not run.is_complete:
            return record, None, []
        artifact = run.artifact()
        damage = find_damage(artifact.path, artifact.files, read=False)
        damage += [f"{name} {how}" for name, how in run.changed_records()]
        seal = run.seal()
    except IntegrityError as error:
        return None, None, [str(error)]
    if locked is not None and locked.disowns(record.fingerprint, record.made_at, seal):
        damage.append("artifact.json was sealed anew: continuum.lock has another seal of this run")
    return record, (None if damage else artifact), damage


def _proved(forecast: Forecast) -> Forecast:
    """What is left of the doubts about a stage that has finished: nothing."""
    return replace(forecast, problems=(), warnings=(), notes=())
