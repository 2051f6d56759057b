"""What a run would do, and why: decided here, carried out elsewhere.

Pure: reads the experiment and the folder's records, writes nothing, imports no torch, and asks no
network. `run` acts on the very plan that `plan` prints.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from continuum.artifacts import Artifact
from continuum.digest_cache import DigestCache
from continuum.errors import IntegrityError
from continuum.files import find_damage
from continuum.fingerprint import diff_payloads, fingerprint
from continuum.runs import ExperimentFolder, StageRun
from continuum.spec.experiment import Experiment
from continuum.stage import Forecast, PlanInput, Ref, Spec, Stage, select_checkpoint


class Action(str, Enum):
    """What is done about a stage."""

    RUN = "run"
    RECOVER = "recover"
    REUSE = "reuse"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class PlannedStage:
    """One stage with its identity, its run folder, and what is to be done."""

    name: str
    stage: Stage
    recipe: Spec | None
    refs: tuple[Ref[Any], ...]
    """All inputs, those a resume inherits included."""
    fingerprint: str
    identity: dict[str, Any]
    run: StageRun
    action: Action
    reasons: tuple[str, ...]
    forecast: Forecast
    save_steps: tuple[int, ...]
    """Steps of it that other stages select."""
    archive: bool = False
    """Whether what lies in the run folder must give way first."""


@dataclass(frozen=True)
class Plan:
    """The stages in an order they can run in."""

    experiment: Experiment
    folder: ExperimentFolder
    stages: Mapping[str, PlannedStage]

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages.values())

    @property
    def problems(self) -> list[str]:
        """Why the run is refused, by stage; empty when it can start."""
        return [f"{p.name}: {problem}" for p in self for problem in p.forecast.problems]

    @property
    def has_work(self) -> bool:
        return any(planned.action is not Action.REUSE for planned in self)


def make_plan(experiment: Experiment, folder: ExperimentFolder, digests: DigestCache) -> Plan:
    """Decide what to do about every stage.

    Args:
        digests: Remembers the hashes of local files; the plan reads it and does not save it.
    """
    planner = _Planner(experiment, folder, digests)
    for name in experiment.in_order():
        planner.add(name)
    return Plan(experiment, folder, planner.planned)


class _Planner:
    def __init__(
        self, experiment: Experiment, folder: ExperimentFolder, digests: DigestCache
    ) -> None:
        self.planned: dict[str, PlannedStage] = {}
        self._experiment = experiment
        self._folder = folder
        self._digests = digests
        self._artifacts: dict[str, Artifact | None] = {}
        self._runs_by_stage: dict[str, list[StageRun]] | None = None
        self._selected = _selected_steps(experiment.stages)

    def add(self, name: str) -> None:
        stage: Stage = self._experiment.stages[name]
        own_refs = {ref.stage for ref in stage.refs().values()}
        recipe = stage.recipe({parent: self.planned[parent].recipe for parent in own_refs})
        refs = input_refs(stage, recipe)
        identity = self._identity(stage, refs)
        digest = fingerprint(identity)
        run = self._folder.run(name, digest)
        inputs = {str(ref): self._input(ref) for ref in refs}
        forecast = stage.forecast(inputs, self._folder.path)
        forecast = forecast.with_problems(self._selection_problems(refs))
        artifact, damage = _usable_artifact(run)
        self._artifacts[name] = artifact
        action, reasons, archive = self._decide(name, refs, identity, run, forecast, damage)
        self.planned[name] = PlannedStage(
            name=name,
            stage=stage,
            recipe=recipe,
            refs=refs,
            fingerprint=digest,
            identity=identity,
            run=run,
            action=action,
            reasons=reasons,
            forecast=forecast if action is not Action.REUSE else _proved(forecast),
            save_steps=self._selected.get(name, ()),
            archive=archive,
        )

    def _identity(self, stage: Stage, refs: tuple[Ref[Any], ...]) -> dict[str, Any]:
        local = {
            name: self._digests.sha256(path)
            for name, path in stage.local_inputs(self._folder.path).items()
        }
        payload: dict[str, Any] = {
            "version": stage.version,
            "stage": stage.identity(),
            "inputs": {str(ref): self.planned[ref.stage].fingerprint for ref in refs},
        }
        payload |= {"files": local} if local else {}
        payload |= {"seed": self._experiment.seed} if stage.uses_seed else {}
        return payload

    def _input(self, ref: Ref[Any]) -> PlanInput:
        parent = self.planned[ref.stage]
        artifact = self._artifacts[ref.stage]
        if artifact is not None:
            artifact = select_checkpoint(artifact, ref, parent.run)
        view = artifact.view(ref.expects) if artifact is not None else None
        return PlanInput(parent.stage, parent.forecast, view, parent.recipe)

    def _selection_problems(self, refs: tuple[Ref[Any], ...]) -> Iterator[str]:
        for ref in refs:
            artifact = self._artifacts[ref.stage]
            run = self.planned[ref.stage].run
            if artifact is not None and select_checkpoint(artifact, ref, run) is None:
                steps = ", ".join(str(c.manifest.step) for c in run.checkpoints())
                yield (
                    f"{ref!r}: {ref.stage} is complete and kept no checkpoint of step {ref.step}; "
                    f"there are {steps}"
                )

    def _decide(
        self,
        name: str,
        refs: tuple[Ref[Any], ...],
        identity: dict[str, Any],
        run: StageRun,
        forecast: Forecast,
        damage: list[str],
    ) -> tuple[Action, tuple[str, ...], bool]:
        if run.is_complete and not damage:
            changed = self._changed_inputs(run, refs)
            if not changed:
                return Action.REUSE, ("complete",), False
            return Action.RUN, changed, True
        waiting = [r.stage for r in refs if self.planned[r.stage].action is Action.BLOCKED]
        if forecast.problems or waiting:
            reasons = (*forecast.problems, *(f"waits for {stage}" for stage in waiting))
            return Action.BLOCKED, reasons, False
        if damage:
            return Action.RUN, (f"its artifact is damaged: {damage[0]}",), True
        if run.is_begun:
            saved = run.checkpoints()
            if saved:
                step = saved[-1].manifest.step
                return Action.RECOVER, (f"interrupted; goes on from step {step:,}",), False
            return Action.RUN, ("interrupted before anything was saved",), False
        return Action.RUN, self._why_new(name, identity), False

    def _changed_inputs(self, run: StageRun, refs: tuple[Ref[Any], ...]) -> tuple[str, ...]:
        """Inputs that were made again, with other bytes, since the stage used them."""
        recorded = {item.ref: item.digest for item in run.record().inputs}
        changed = []
        for ref in refs:
            artifact = self._input(ref).artifact
            if artifact is not None and recorded.get(str(ref), artifact.digest) != artifact.digest:
                changed.append(f"{ref} was made again and has other bytes")
        return tuple(changed)

    def _why_new(self, name: str, identity: dict[str, Any]) -> tuple[str, ...]:
        if self._runs_by_stage is None:
            self._runs_by_stage = {}
            for run in self._folder.runs():
                self._runs_by_stage.setdefault(run.stage_name, []).append(run)
        earlier = self._runs_by_stage.get(name, [])
        if not earlier:
            return ("never run",)
        latest = max(earlier, key=lambda run: (run.path / "stage.json").stat().st_mtime_ns)
        changes = list(diff_payloads(latest.record().identity, identity))
        return tuple(_explain(change.path, change.old, change.new) for change in changes)


def input_refs(stage: Stage, recipe: Spec | None) -> tuple[Ref[Any], ...]:
    """A stage's references and, for a resume, the datasets its recipe inherits."""
    refs: dict[str, Ref[Any]] = {str(ref): ref for ref in stage.refs().values()}
    if recipe is not None:
        refs |= {str(ref): ref for ref in recipe.refs().values()}
    return tuple(refs.values())


def _selected_steps(stages: Mapping[str, Stage]) -> dict[str, tuple[int, ...]]:
    selected: dict[str, set[int]] = {}
    for stage in stages.values():
        for ref in stage.refs().values():
            if ref.step is not None:
                selected.setdefault(ref.stage, set()).add(ref.step)
    return {name: tuple(sorted(steps)) for name, steps in selected.items()}


def _usable_artifact(run: StageRun) -> tuple[Artifact | None, list[str]]:
    if not run.is_complete:
        return None, []
    try:
        artifact = run.artifact()
        damage = find_damage(artifact.path, artifact.files, read=False)
    except IntegrityError as error:
        return None, [str(error)]
    return (None, damage) if damage else (artifact, [])


def _proved(forecast: Forecast) -> Forecast:
    """What is left of the doubts about a stage that has finished: nothing."""
    return replace(forecast, problems=(), warnings=())


def _explain(path: str, old: Any, new: Any) -> str:
    if path.startswith("inputs."):
        return f"{path.removeprefix('inputs.')} changed"
    return f"{path.removeprefix('stage.')} changed: {old} -> {new}"
