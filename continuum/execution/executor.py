"""Carry out a plan: every stage as soon as its inputs exist, one at a time on the accelerator."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from continuum.disk_errors import tell_disk_fault
from continuum.errors import (
    ContinuumError,
    IntegrityError,
    PreflightError,
    StageFailedError,
)
from continuum.execution.launchers import Launcher
from continuum.execution.results import Planned, RunResult
from continuum.experiment.experiment import Experiment
from continuum.experiment.selection import select
from continuum.lineage.reading import write_lineage
from continuum.planning.changes import changes, of_inputs, of_used
from continuum.planning.leaks import LeakFinder
from continuum.planning.locked_run import check_locked, update_lock
from continuum.planning.plan import NOTHING_MORE, Action, Plan, PlannedStage, Request
from continuum.planning.planner import make_plan
from continuum.preflight.disk import DiskBudget
from continuum.runs.artifacts import Artifact, TrainingCheckpoint
from continuum.runs.events import Event, Outcome, Started, Stopping, Warned
from continuum.runs.files import DigestCache
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.runs.provenance import capture_provenance
from continuum.runs.records import InputRecord, StageRecord

MAX_PARALLEL = 4
"""Stages at once; at most one of them trains."""

POLL_S = 0.2
"""Seconds between two looks for a request to stop."""

Observer = Callable[[str, Event], None]
"""Takes the events of the stages, by their names; those of the whole run have an empty one."""


@dataclass(frozen=True)
class StopRule:
    """When a run ends early: it then saves what it can, and the next one goes on."""

    is_requested: Callable[[], bool] = lambda: False
    """Asked a few times a second."""
    grace_s: float = 120.0
    """How long the stages may take to reach a step boundary and save before they are killed."""


def run_experiment(
    experiment: Experiment,
    folder: ExperimentFolder,
    make_launcher: Callable[[Plan], Launcher],
    observe: Observer,
    stop: StopRule = StopRule(),  # a frozen value
    request: Request = NOTHING_MORE,
    approve: Callable[[Plan], None] | None = None,
    spec_files: Sequence[Path] = (),
    *,
    unsafe_locks: bool = False,
) -> RunResult:
    """Plan and carry out, as the only writer of the folder.

    Args:
        make_launcher: Called only when there is something to do.
        approve: Told the plan before anything starts; raises to refuse it.
        spec_files: The spec and its bases, of which the record says whether Git has them.
        unsafe_locks: See `ExperimentFolder.lock`.

    Raises:
        PreflightError: the plan has problems; nothing was started.
        FolderInUseError: another process is writing the folder.
    """
    with folder.lock(unsafe=unsafe_locks):
        folder.stop_request.unlink(missing_ok=True)
        digests = DigestCache(folder.digest_cache_path)
        plan = make_plan(experiment, folder, digests, request)
        digests.save()
        observe("", Planned(plan))
        _refuse(plan, approve)
        result = RunResult(plan)
        if plan.has_work:
            launcher = make_launcher(plan)
            try:
                provenance = capture_provenance(folder, spec_files)
                _Execution(result, launcher, observe, stop, provenance).carry_out()
            finally:
                launcher.close()
        _write_what_was_made(result)
        return result


def _refuse(plan: Plan, approve: Callable[[Plan], None] | None) -> None:
    """Raise why nothing is started, if anything speaks against the plan."""
    if approve is not None:
        approve(plan)
    if plan.problems:
        listed = "\n".join(f"  - {problem.path[1]}: {problem}" for problem in plan.problems)
        raise PreflightError(f"nothing was started:\n{listed}")
    if plan.request.locked:
        check_locked(plan)


def _write_what_was_made(result: RunResult) -> None:
    """Write `lineage.json` and `continuum.lock`."""
    plan = result.plan
    try:
        write_lineage(plan.folder, plan.experiment.name, plan)
        if not plan.request.overrides and not plan.request.locked:
            # The lock belongs to the spec as it is committed, not to a trial of other values.
            update_lock(plan, result.settled)
    except OSError as error:
        result.unrecorded = tell_disk_fault(error, plan.folder.path)


class _Execution:
    """The state of one carrying out: what has ended, and who holds the accelerator."""

    def __init__(
        self,
        result: RunResult,
        launcher: Launcher,
        observe: Observer,
        stop: StopRule,
        provenance: dict[str, Any],
    ) -> None:
        self._result = result
        self._plan = result.plan
        self._launcher = launcher
        self._observer = observe
        self._warned: set[tuple[str, str]] = set()
        self._stop = stop
        self._stopping_since: float | None = None
        self._has_killed = False
        self._accelerator = threading.Lock()
        self._disk = DiskBudget(at_work=True)
        self._provenance = provenance
        self._leaks = LeakFinder(self._plan)
        self._fingerprints = {p.name: p.fingerprint for p in self._plan}

    def carry_out(self) -> None:
        """Run what needs running; a failure keeps only the stages below it from starting."""
        graph = {p.name: {ref.stage for ref in p.refs} for p in self._plan}
        sorter = TopologicalSorter(graph)
        sorter.prepare()
        running: dict[Future[bool], str] = {}
        with ThreadPoolExecutor(MAX_PARALLEL) as pool:
            try:
                while sorter.is_active():
                    for name in sorter.get_ready():
                        running[pool.submit(self._stage, self._plan.stages[name])] = name
                    if not running:
                        return
                    ended = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED).done
                    for future in ended:
                        name = running.pop(future)
                        if future.result():
                            sorter.done(name)
                    self._heed_stop()
            except BaseException:
                self._launcher.close()
                raise

    def _observe(self, stage: str, event: Event) -> None:
        """Pass an event on, but a warning once: the plan and the stage itself may give the same."""
        if isinstance(event, Warned):
            if (stage, event.message) in self._warned:
                return
            self._warned.add((stage, event.message))
        self._observer(stage, event)

    def _heed_stop(self) -> None:
        """Pass a request to stop on, once; kill what has not stopped after the grace period."""
        if self._stopping_since is None:
            if self._stop.is_requested() or self._plan.folder.stop_request.exists():
                self._stopping_since = time.monotonic()
                self._observe("", Stopping())
                self._launcher.stop()
        elif time.monotonic() - self._stopping_since > self._stop.grace_s:
            self._has_killed = True
            self._launcher.close()

    def _stage(self, planned: PlannedStage) -> bool:
        """Whether the stage is complete, now or already."""
        if planned.action is Action.REUSE:
            return True
        outcome = self._try(planned)
        self._result.outcomes[planned.name] = outcome
        self._observe(planned.name, outcome)
        return outcome.status in ("done", "reused")

    def _try(self, planned: PlannedStage) -> Outcome:
        run = planned.run
        try:
            inputs = self._gather(planned)
            gives_way = planned.archive or has_other_inputs(planned, inputs)
            if planned.action is Action.CHECK and not gives_way:
                return Outcome("reused", "its inputs came out with the same bytes")
            with self._accelerator if planned.stage.trains else nullcontext():
                if self._stopping_since is not None:
                    return Outcome("stopped", "not started: the run was stopped")
                self._check(planned, inputs, again=gives_way)
                replaces = self._replaced_seals(planned, gives_way=gives_way)
                if gives_way:
                    run.archive()
                record = self._record(planned, inputs, replaces)
                run.begin(record)
                return self._launch(planned, record)
        except ContinuumError as error:
            return Outcome.of(error)
        except OSError as error:
            return Outcome("failed", tell_disk_fault(error, run.path))
        finally:
            self._disk.release(run)

    def _launch(self, planned: PlannedStage, record: StageRecord) -> Outcome:
        run, host = planned.run, self._provenance["host"]
        number = run.num_attempts + 1
        git = self._provenance["git"]
        run.log_attempt("started", attempt=number, at=_now(), host=host, git=git)
        self._observe(planned.name, Started(number))
        outcome = self._launcher.launch(run, record, partial(self._observe, planned.name))
        if outcome.status == "killed" and self._has_killed:
            outcome = Outcome(
                "killed",
                f"did not stop within {self._stop.grace_s:g} s and was killed; "
                "the next run goes on from its last checkpoint",
            )
        try:
            run.log_attempt(
                "ended", attempt=number, at=_now(), status=outcome.status, message=outcome.message
            )
        except OSError as error:  # How the stage ended counts for more than its record.
            message = f"its end is not recorded: {tell_disk_fault(error, run.path)}"
            self._observe(planned.name, Warned(message))
        return outcome

    def _gather(self, planned: PlannedStage) -> dict[str, Artifact]:
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

    def _check(self, planned: PlannedStage, inputs: Mapping[str, Artifact], *, again: bool) -> None:
        """Ask once more what the plan asked, now with exact numbers."""
        stages = self._plan.stages
        seen = {str(r): stages[r.stage].as_input(r, inputs[str(r)]) for r in planned.refs}
        forecast = planned.stage.forecast(seen, self._plan.folder.path)
        forecast = self._disk.claim(forecast, planned.run, planned.save_steps, again=again)
        if forecast.problems:
            raise PreflightError("; ".join(map(str, forecast.problems)))
        for warning in set(forecast.warnings) - set(planned.forecast.warnings):
            self._observe(planned.name, Warned(str(warning)))

    def _replaced_seals(self, planned: PlannedStage, *, gives_way: bool) -> tuple[str, ...]:
        """Seals by which others know what lay in the run's place before, its own among them."""
        earlier = _record_or_none(planned.run)
        seals = set(earlier.replaces) if earlier is not None else set()
        if gives_way:
            with suppress(IntegrityError):
                seals |= {seal for seal in (planned.run.artifact().seal,) if seal}
            for other in self._plan:
                record = _record_or_none(other.run)
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
            # With every null: what is null need not be so by default.
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
            overrides=self._plan.request.overrides,
            leaks=tuple(leak.message for leak in self._leaks.find(planned.name)),
            replaces=replaces,
            made_at=_now(),
            provenance=self._provenance,
        )


def has_other_inputs(planned: PlannedStage, inputs: Mapping[str, Artifact]) -> bool:
    """Whether the run in the folder, finished or not, began with other bytes than these."""
    record = planned.existing.record if planned.run is planned.existing.run else None
    used = of_used(record, planned.identity) if record is not None else {}
    return any(changes(used, of_inputs(inputs), ("digest",)))


def _record_or_none(run: StageRun) -> StageRecord | None:
    """The record of a run that has begun; None where there is none that can be read."""
    try:
        return run.record() if run.is_begun else None
    except IntegrityError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
