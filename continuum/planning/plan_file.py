"""A plan as a versioned JSON document, to review and for `run --plan`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from continuum.errors import DecisionNeededError, UsageError
from continuum.planning.changes import changes, of_values
from continuum.planning.costs import Cost, estimate_costs, total
from continuum.planning.plan import Plan, PlannedStage, Request
from continuum.runs.redaction import masked

SCHEMA = "continuum.plan/1"


def as_document(plan: Plan) -> dict[str, Any]:
    """The plan's document; the same for the same plan, except for the estimated seconds."""
    costs = estimate_costs(plan)
    return {
        "schema": SCHEMA,
        "experiment": plan.experiment.name,
        "ok": not plan.problems,
        "has_work": plan.has_work,
        "overrides": list(map(masked, plan.request.overrides)),
        "rerun": sorted(plan.request.rerun),
        "locked": plan.request.locked,
        "stages": [_stage(planned, costs[planned.name]) for planned in plan],
        "total": total(costs),
        "total_at_most": total(costs, with_checked=True),
    }


def refuse_secrets(request: Request) -> None:
    """Refuse to save a request that `run --plan` could not repeat, since secrets are masked.

    Raises:
        UsageError: an override holds a secret.
    """
    for override in request.overrides:
        if (shown := masked(override)) != override:
            raise UsageError(
                f"--set {shown}: a saved plan would hold this secret; write it as ${{env.NAME}} in "
                "the URL"
            )


def read_document(path: Path) -> "SavedPlan":
    """Read a saved plan.

    Raises:
        UsageError: the file is not a valid plan of this version.
    """
    advice = f"create one with `continuum plan --out {path}`"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {advice}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON ({error}); {advice}") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{path}: expected {SCHEMA}, found {schema or 'no schema'}; {advice}")
    try:
        return SavedPlan(path=path, **document)
    except (ValidationError, TypeError):
        raise UsageError(f"{path}: not a valid {SCHEMA} document; {advice}") from None


class BoundStage(BaseModel):
    """The part of a plan that a run must match; costs, reasons and warnings may differ."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    kind: str
    fingerprint: str
    action: str
    run: str
    from_step: int | None
    pins: dict[str, str]


class SavedPlan(BaseModel):
    """A plan that was saved for `run --plan`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: Path
    overrides: tuple[str, ...]
    rerun: frozenset[str]
    locked: bool
    stages: tuple[BoundStage, ...]

    @property
    def request(self) -> Request:
        """What was requested when it was made."""
        return Request(self.overrides, self.rerun, self.locked)

    def check(self, plan: Plan) -> None:
        """Refuse a plan that differs from this one.

        Raises:
            DecisionNeededError: with every difference.
        """
        differences = list(_differences(plan, {stage.name: stage for stage in self.stages}))
        if differences:
            listed = "\n".join(f"  - {difference}" for difference in differences)
            raise DecisionNeededError(
                f"nothing was started: the plan has changed since {self.path} was saved\n{listed}\n"
                f"review it again with `continuum plan --out {self.path}`"
            )


def _differences(plan: Plan, agreed: Mapping[str, BoundStage]) -> Iterator[str]:
    for planned in plan:
        if planned.name not in agreed:
            yield f"{planned.name}: not in the saved plan"
            continue
        sides = (agreed[planned.name], _binding(planned))
        then, now = (of_values("binding", side.model_dump()) for side in sides)
        for change in changes(then, now, ("binding",)):
            yield f"{planned.name}: {change.name} changed: {change.old} -> {change.new}"
    for name in agreed.keys() - plan.stages.keys():
        yield f"{name}: in the saved plan but not in the spec"


def _binding(planned: PlannedStage) -> BoundStage:
    return BoundStage(
        name=planned.name,
        kind=planned.stage.kind,
        fingerprint=planned.fingerprint,
        action=planned.action.value,
        run=planned.run.name,
        from_step=planned.from_step,
        pins=dict(planned.pins),
    )


def _stage(planned: PlannedStage, cost: Cost) -> dict[str, Any]:
    forecast = planned.forecast
    taken, left = forecast.taken_files, forecast.left_files
    return {
        **_binding(planned).model_dump(),
        "reasons": [reason.as_json() for reason in planned.reasons],
        "inputs": [str(ref) for ref in planned.refs],
        "problems": list(map(str, forecast.problems)),
        "warnings": list(map(str, forecast.warnings)),
        "notes": list(forecast.notes),
        "files": {"taken": dict(sorted(taken.items())), "left": dict(sorted(left.items()))},
        "cost": cost.as_json(),
    }
