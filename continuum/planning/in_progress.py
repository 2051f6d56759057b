"""Runs in progress that the spec as it stands does not lead to: it was changed since they began."""

from collections.abc import Iterator
from dataclasses import dataclass

from continuum.errors import IntegrityError
from continuum.planning.changes import explain
from continuum.planning.plan import Plan
from continuum.runs.attempts import AttemptState
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord


@dataclass(frozen=True)
class EarlierRun:
    """A run in progress with another fingerprint than its stage has now."""

    run: StageRun
    record: StageRecord
    attempt: AttemptState
    note: str
    """That the spec has changed, and how."""


def find_earlier_runs(plan: Plan) -> dict[str, EarlierRun]:
    """The runs in progress that are not the plan's, by the name of their stage.

    Reads the records of unfinished runs, and only while a process holds the folder.
    """
    owner = plan.state.owner
    if owner is None:
        return {}
    own = {planned.run.name for planned in plan}
    found = {}
    for run in plan.folder.runs():
        if run.name in own or run.is_complete:
            continue
        try:
            record, attempt = run.record(), run.attempt_state(owner)
        except IntegrityError:
            continue
        if attempt.is_running:
            note = "; ".join(_differences(plan, run, record))
            found[run.stage_name] = EarlierRun(run, record, attempt, note)
    return found


def _differences(plan: Plan, run: StageRun, record: StageRecord) -> Iterator[str]:
    planned = plan.stages.get(run.stage_name)
    yield "the spec has changed since it started"
    if planned is None:
        yield f"it has no stage {run.stage_name!r} any more"
    else:
        yield from map(str, explain(record, planned.identity))
