"""Execute a plan: run every stage as soon as its inputs exist, one at a time on the accelerator."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from continuum.disk_errors import describe_or_raise
from continuum.errors import ContinuumError, IntegrityError, PreflightError, StageFailedError
from continuum.execution.launchers import Launcher
from continuum.execution.results import RunResult
from continuum.experiment.selection import select
from continuum.lineage.reading import write_lineage
from continuum.planning.changes import changed_inputs
from continuum.planning.folder_state import read_folder
from continuum.planning.leaks import LeakFinder
from continuum.planning.locked_run import renew_lockfile
from continuum.planning.lockfile import write_lockfile
from continuum.planning.plan import Action, Plan, PlannedStage
from continuum.planning.planner import make_plan
from continuum.preflight.disk import DiskBudget
from continuum.runs.artifacts import (
    Artifact,
    TokenizedDataset,
    TokenizerFiles,
    TrainingCheckpoint,
)
from continuum.runs.attempts import now
from continuum.runs.events import Event, Outcome, Started, Stopping, Warned
from continuum.runs.folder import StageRun
from continuum.runs.provenance import capture_provenance
from continuum.runs.records import InputRecord, StageRecord
from continuum.runs.redaction import masked

MAX_PARALLEL = 4
"""Stages at once; at most one of them trains."""

POLL_S = 0.2
"""Seconds between two checks for a request to stop."""

Observer = Callable[[str, Event], None]
"""Takes the events of the stages, by stage name; events of the whole run have an empty name."""


@dataclass(frozen=True)
class StopRule:
    """When a run stops early: it then saves what it can, and the next run resumes it."""

    is_requested: Callable[[], bool] = lambda: False
    """Called a few times a second."""
    grace_s: float = 120.0
    """How long the stages may take to reach a step boundary and save before they are killed."""


def execute(
    plan: Plan,
    make_launcher: Callable[[Plan], Launcher],
    observe: Observer,
    stop: StopRule = StopRule(),  # a frozen value
    spec_files: Sequence[Path] = (),
) -> RunResult:
    """Run what a plan decided, as the only writer of its folder.

    Args:
        make_launcher: Called only when there is something to do.
        spec_files: The spec and its bases; the record says whether Git tracks them.
    """
    result = RunResult(plan)
    if plan.has_work:
        for planned in plan:
            for url in planned.stage.urls():
                os.environ |= url.for_worker(planned.fingerprint)
        launcher = make_launcher(plan)
        try:
            _Execution(result, launcher, observe, stop, spec_files).run()
        finally:
            launcher.close()
    return result


def record_results(result: RunResult) -> None:
    """Write `continuum.lock` and `lineage.json` from the records of the runs."""
    plan = result.plan
    try:
        lockfile = None
        if not plan.request.overrides and not plan.request.locked:
            # The lockfile belongs to the committed spec, not to a trial of other values.
            lockfile = renew_lockfile(plan.lockfile, plan, result.up_to_date)
        write_lineage(plan.folder, plan.experiment.name, plan)
        if lockfile is not None:
            write_lockfile(plan.folder.lockfile_path, lockfile)
    except OSError as error:
        result.unrecorded = describe_or_raise(error, plan.folder.path)


class _Execution:
    """The state of one execution: which stages have ended, and which one has the accelerator."""

    def __init__(
        self,
        result: RunResult,
        launcher: Launcher,
        observe: Observer,
        stop: StopRule,
        spec_files: Sequence[Path],
    ) -> None:
        self._result = result
        self._plan = result.plan
        self._launcher = launcher
        self._observer = observe
        self._warned = {(p.name, str(it)) for p in self._plan for it in p.forecast.warnings}
        self._stop = stop
        self._stopping_since: float | None = None
        self._killed_because = ""
        self._accelerator = threading.Lock()
        self._considered: set[str] = set()
        """The data that the last plan of the stages to come knew."""
        self._foreseen: list[tuple[str, str]] = []
        """Its problems, by stage."""
        self._disk = DiskBudget(at_work=True)
        self._spec_files = spec_files
        self._provenance: dict[str, Any] = {}
        self._leaks = LeakFinder(self._plan)
        self._fingerprints = {p.name: p.fingerprint for p in self._plan}

    def run(self) -> None:
        """Run all stages that need it; a failure keeps only its dependents from starting."""
        self._provenance = capture_provenance(self._plan.folder, self._spec_files)
        for planned in self._plan:
            planned.run.record_lost_attempt(at=now())
        graph = {p.name: {ref.stage for ref in p.refs} for p in self._plan}
        sorter = TopologicalSorter(graph)
        sorter.prepare()
        awaited = self._plan.undecided_tokenizers()
        running: dict[Future[bool], str] = {}
        ready: list[str] = []
        ended: set[str] = set()
        with ThreadPoolExecutor(MAX_PARALLEL) as pool:
            try:
                while sorter.is_active():
                    ready += sorter.get_ready()
                    free = [name for name in ready if ended.issuperset(awaited.get(name, ()))]
                    for name in free or ([] if running else ready):
                        running[pool.submit(self._stage, self._plan.stages[name])] = name
                    ready = [name for name in ready if name not in running.values()]
                    if not running:
                        return
                    for future in wait(running, POLL_S, FIRST_COMPLETED).done:
                        name = running.pop(future)
                        ended.add(name)
                        if future.result():
                            sorter.done(name)
                    self._check_stop()
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    self._killed_because = "was interrupted a second time"
                self._launcher.close()
                raise

    def _observe(self, stage: str, event: Event) -> None:
        """Pass an event on, but each warning once: a stage may repeat one of the plan."""
        if isinstance(event, Warned):
            if (stage, event.message) in self._warned:
                return
            self._warned.add((stage, event.message))
        self._observer(stage, event)

    def _check_stop(self) -> None:
        """Pass a request to stop on, once; kill what has not stopped after the grace period."""
        if self._stopping_since is None:
            if self._stop.is_requested() or self._plan.folder.stop_request.exists():
                self._stopping_since = time.monotonic()
                self._observe("", Stopping())
                self._launcher.stop()
        elif time.monotonic() - self._stopping_since > self._stop.grace_s:
            self._killed_because = f"did not stop within {self._stop.grace_s:g} s"
            self._launcher.close()

    def _stage(self, planned: PlannedStage) -> bool:
        """Run a stage if needed; return whether its artifact is there."""
        if planned.action is Action.REUSE:
            return True
        outcome = self._try(planned)
        self._result.outcomes[planned.name] = outcome
        self._observe(planned.name, outcome)
        return outcome.has_succeeded

    def _try(self, planned: PlannedStage) -> Outcome:
        run = planned.run
        try:
            inputs = self._find_inputs(planned)
            earlier = planned.existing.record if run is planned.existing.run else None
            changed = changed_inputs(earlier, planned.identity, inputs)
            must_replace = planned.must_replace or bool(changed)
            if planned.action is Action.CHECK and not must_replace:
                return Outcome("reused", "its inputs were rebuilt with identical content")
            with self._accelerator if planned.stage.uses_accelerator else nullcontext():
                if self._stopping_since is not None:
                    return Outcome("stopped", "not started: the run was stopped")
                self._check(planned, inputs, must_replace=must_replace)
                replaces = self._replaced_seals(planned, must_replace=must_replace)
                if must_replace:
                    run.archive()
                record = self._record(planned, inputs, replaces)
                run.begin(record)
                return self._launch(planned, record)
        except ContinuumError as error:
            return Outcome.of(error)
        except OSError as error:
            return Outcome("failed", describe_or_raise(error, run.path))
        finally:
            self._disk.release(run)

    def _launch(self, planned: PlannedStage, record: StageRecord) -> Outcome:
        run, host = planned.run, self._provenance["host"]
        number = run.num_attempts + 1
        git = self._provenance["git"]
        self._result.started.add(planned.name)
        run.log_attempt("started", attempt=number, at=now(), host=host, git=git)
        self._observe(planned.name, Started(number))
        outcome = self._launcher.launch(run, record, partial(self._observe, planned.name))
        if outcome.status in ("killed", "crashed") and self._killed_because:
            outcome = Outcome(
                "killed",
                f"{self._killed_because} and was killed; "
                "the next run resumes from its last checkpoint",
            )
        try:
            run.log_attempt(
                "ended", attempt=number, at=now(), status=outcome.status, message=outcome.message
            )
        except OSError as error:  # The outcome matters more than its record.
            message = f"its end is not recorded: {describe_or_raise(error, run.path)}"
            self._observe(planned.name, Warned(message))
        return outcome

    def _find_inputs(self, planned: PlannedStage) -> dict[str, Artifact]:
        """The artifacts of the inputs, by reference."""
        inputs: dict[str, Artifact] = {}
        for ref in planned.refs:
            run = self._plan.stages[ref.stage].run
            record = run.record() if ref.metric else None
            found = select(run.artifact(), ref, run, record, self._fingerprints)
            if isinstance(found, str):
                raise StageFailedError(found)
            inputs[str(ref)] = found
        return inputs

    def _check(
        self, planned: PlannedStage, inputs: Mapping[str, Artifact], *, must_replace: bool
    ) -> None:
        """Forecast the stage again: inputs made since the plan give exact numbers."""
        stages = self._plan.stages
        seen = {str(r): stages[r.stage].as_input(r, inputs[str(r)]) for r in planned.refs}
        forecast = planned.stage.forecast(seen, self._plan.folder.path)
        forecast = self._disk.claim(forecast, planned.run, planned.save_steps, again=must_replace)
        problems = [str(it) for it in forecast.problems]
        problems += self._problems_below(planned) if planned.stage.trains else ()
        if problems:
            raise PreflightError("; ".join(problems))
        for warning in forecast.warnings:
            self._observe(planned.name, Warned(str(warning)))

    def _problems_below(self, training: PlannedStage) -> Iterator[str]:
        """Problems of the stages that depend on a training, by the data made since the plan.

        They would end the run only after the training.
        """
        ended = [name for name, it in tuple(self._result.outcomes.items()) if it.has_succeeded]
        data = {name for name in ended if _makes_data(self._plan.stages[name])}
        if not data <= self._considered:
            self._considered = data
            plan, state = self._plan, read_folder(self._plan.experiment, self._plan.folder)
            again = make_plan(plan.experiment, state, plan.request)
            self._foreseen = [
                (it.name, str(problem))
                for it in again
                for problem in it.forecast.problems
                if problem.needs != "machine"
            ]
        ancestors = {training.name}
        for it in self._plan if self._foreseen else ():
            if not ancestors.isdisjoint(ref.stage for ref in it.refs):
                ancestors.add(it.name)
                yield from (f"{it.name}: {p}" for name, p in self._foreseen if name == it.name)

    def _replaced_seals(self, planned: PlannedStage, *, must_replace: bool) -> tuple[str, ...]:
        """Seals that any record has of earlier runs in this place, those of the last included."""
        earlier = _readable_record(planned.run)
        seals = set(earlier.replaces) if earlier is not None else set()
        if must_replace:
            with suppress(IntegrityError):
                seals |= {seal for seal in (planned.run.artifact().seal,) if seal}
            for other in self._plan:
                record = _readable_record(other.run)
                used = record.inputs if record is not None else ()
                seals |= {item.seal for item in used if item.run == planned.run.name and item.seal}
        return tuple(sorted(seals))

    def _record(
        self, planned: PlannedStage, inputs: dict[str, Artifact], replaces: tuple[str, ...]
    ) -> StageRecord:
        recipe, stages = planned.recipe, self._plan.stages
        return StageRecord(
            name=planned.name,
            kind=planned.stage.kind,
            fingerprint=planned.fingerprint,
            identity=planned.identity.payload,
            # With every null: a default may be another value.
            spec=planned.stage.model_dump(mode="json", by_alias=True),
            recipe=recipe.model_dump(mode="json", by_alias=True) if recipe else None,
            seeds=planned.stage.used_seeds(recipe),
            inputs=tuple(
                InputRecord(
                    ref=str(ref),
                    run=stages[ref.stage].run.name,
                    fingerprint=stages[ref.stage].fingerprint,
                    digest=used.digest,
                    step=used.step if isinstance(used, TrainingCheckpoint) else None,
                    seal=stages[ref.stage].run.artifact().seal,
                )
                for ref, used in zip(planned.refs, inputs.values(), strict=True)
            ),
            save_steps=planned.save_steps,
            best_metrics=planned.best_metrics,
            pins=dict(planned.pins),
            overrides=tuple(map(masked, self._plan.request.overrides)),
            leaks=tuple(leak.message for leak in self._leaks.find(planned.name)),
            replaces=replaces,
            made_at=now(),
            provenance=self._provenance,
        )


def _makes_data(planned: PlannedStage) -> bool:
    """Whether a training can turn out not to fit its result."""
    types = planned.stage.output_types()
    return TokenizerFiles in types or TokenizedDataset in types


def _readable_record(run: StageRun) -> StageRecord | None:
    """The record of a run that has begun; None if there is none or it cannot be read."""
    try:
        return run.record() if run.is_begun else None
    except IntegrityError:
        return None
