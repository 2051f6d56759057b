"""Plan an experiment, carry it out in this process, and hold what happened against the plan."""

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from continuum.errors import PreflightError
from continuum.execution.executor import StopRule
from continuum.execution.results import RunResult
from continuum.experiment.selection import select_from
from continuum.planning.plan import NOTHING_MORE, Plan, Request
from continuum.planning.plan_file import as_document
from continuum.runs.events import Event, Outcome, Recovered, Started
from continuum.runs.folder import StageRun
from tests.in_process import plan_folder, run_folder


class CrashError(Exception):
    """Ends a stage in the middle of its work, as a bug or a pulled plug would."""


@dataclass(frozen=True)
class Interruption:
    """Where a run ends early: at the n-th event of a stage."""

    how: str
    """`stop`: it is asked to, and saves; `crash`: the stage dies there."""
    stage: str
    number: int

    def __str__(self) -> str:
        return f"{self.how} at event {self.number} of {self.stage}"


EventT = TypeVar("EventT", bound=Event)


@dataclass
class Events:
    """What a run says about its stages; several threads tell."""

    interruption: Interruption | None = None
    by_stage: dict[str, list[Event]] = field(default_factory=dict)
    is_interrupted: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, stage: str, event: Event) -> None:
        """Note an event; crash where that was asked for."""
        with self._guard:
            told = self.by_stage.setdefault(stage, [])
            told.append(event)
            at = self.interruption
            is_there = at is not None and (stage, len(told)) == (at.stage, at.number)
            self.is_interrupted |= is_there
        if is_there and at is not None and at.how == "crash":
            raise CrashError(str(at))

    def should_stop(self) -> bool:
        return self.is_interrupted

    def of_type(self, stage: str, cls: type[EventT]) -> list[EventT]:
        """The stage's events of this type."""
        return [event for event in self.by_stage.get(stage, []) if isinstance(event, cls)]


def plan_of(folder: Path, request: Request = NOTHING_MORE) -> Plan:
    """What a run would do now, as `continuum plan` decides it."""
    return plan_folder(folder, request)


def document_of(folder: Path, request: Request = NOTHING_MORE) -> dict[str, Any]:
    """The plan as the document that `plan --json` prints."""
    return as_document(plan_of(folder, request))


def actions_of(folder: Path, request: Request = NOTHING_MORE) -> dict[str, str]:
    """What is done about each stage."""
    return {planned.name: planned.action.value for planned in plan_of(folder, request)}


def run(folder: Path, request: Request = NOTHING_MORE, events: Events | None = None) -> RunResult:
    """Carry the experiment out in this process."""
    events = events or Events()
    return run_folder(folder, events.observe, StopRule(events.should_stop), request)


def artifacts_of(plan: Plan) -> dict[str, str]:
    """The digest of each stage's artifact."""
    return {planned.name: planned.run.artifact().digest for planned in plan}


@dataclass(frozen=True)
class Before:
    """What lay in a stage's folder before a run."""

    inputs: dict[str, str]
    """Digests of the artifacts that the run in the folder used, by reference."""
    completed_at_ns: int | None

    @classmethod
    def of(cls, plan: Plan, name: str) -> "Before":
        run = plan.stages[name].run
        is_readable = plan.stages[name].action.value in ("recover", "check", "reuse")
        inputs = {i.ref: i.digest for i in run.record().inputs} if is_readable else {}
        return cls(inputs, _completed_at_ns(plan, name))


def carry_out_and_compare(
    folder: Path, request: Request = NOTHING_MORE, interruption: Interruption | None = None
) -> tuple[dict[str, Any], bool]:
    """Run, and check stage by stage that what happened is what the plan said.

    Returns:
        The plan's document, and whether the run came to its end.
    """
    plan = plan_of(folder, request)
    document = as_document(plan)
    before = {name: Before.of(plan, name) for name in plan.stages}
    events = Events(interruption)
    try:
        result = run(folder, request, events)
    except PreflightError:
        assert not document["ok"], "the run was refused and the plan had no problem"
        assert not [name for name in events.by_stage if name], "something was started all the same"
        return document, False
    except Exception:
        if not events.is_interrupted:
            raise
        result = None
    assert document["ok"], "the plan had problems and the run was not refused"
    settled: set[str] = set()
    for stage in document["stages"]:
        name = stage["name"]
        status = _status(result, events, name)
        if _is_reached(plan, name, settled) and (status is not None or not events.is_interrupted):
            _compare(plan, stage, before[name], events, status)
        else:
            assert not events.of_type(name, Started), f"{name} was started before its inputs"
        if status in ("done", "reused") or stage["action"] == "reuse":
            settled.add(name)
    return document, settled == set(plan.stages)


def _status(result: RunResult | None, events: Events, name: str) -> str | None:
    """How the stage ended; `crashed` when it began and did not, None when it did not begin."""
    if result is not None:
        outcome = result.outcomes.get(name)
        return outcome.status if outcome is not None else None
    ended = events.of_type(name, Outcome)
    if ended:
        return ended[0].status
    return "crashed" if events.of_type(name, Started) else None


def _is_reached(plan: Plan, name: str, settled: Collection[str]) -> bool:
    return all(ref.stage in settled for ref in plan.stages[name].refs)


def _compare(
    plan: Plan, stage: dict[str, Any], before: Before, events: Events, status: str | None
) -> None:
    name, action = stage["name"], stage["action"]
    started = bool(events.of_type(name, Started))
    goes_on_from = [event.step for event in events.of_type(name, Recovered)]
    what = f"{name}: planned {action}, {status=}, {started=}, {goes_on_from=}"
    if action == "reuse":
        assert not started, what
        assert status is None, what
        assert _completed_at_ns(plan, name) == before.completed_at_ns, what
        return
    if status == "stopped":  # It may have been asked to before it came that far.
        return
    is_same = before.inputs == _inputs_now(plan, name)
    if action == "check":
        assert started is not is_same, f"{what}, {is_same=}"
        assert (status == "reused") is is_same, f"{what}, {is_same=}"
        return
    assert started, what
    assert status in ("done", "crashed"), what
    if action == "recover" and is_same:
        assert goes_on_from == [stage["from_step"]] or status == "crashed", what
    else:
        assert action in ("run", "recover"), what
        assert goes_on_from == [], what


def _inputs_now(plan: Plan, name: str) -> dict[str, str]:
    now = {}
    for ref in plan.stages[name].refs:
        artifact = select_from(StageRun(plan.stages[ref.stage].run.path), ref)  # as it is by now
        assert artifact is not None, f"{name} was reached and {ref} is not there"
        now[str(ref)] = artifact.digest
    return now


def _completed_at_ns(plan: Plan, name: str) -> int | None:
    run = plan.stages[name].run
    return (run.path / "artifact.json").stat().st_mtime_ns if run.is_complete else None
