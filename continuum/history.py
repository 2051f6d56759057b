"""What earlier runs in the folder tell a plan: what has changed since them."""

from collections.abc import Iterator, Mapping
from typing import Any

from continuum.errors import IntegrityError
from continuum.fingerprint import ABSENT, diff_payloads
from continuum.reasons import (
    FieldChanged,
    InputChanged,
    Reason,
    UpstreamChanged,
    changed_fields,
)
from continuum.records import StageRecord
from continuum.runs import ExperimentFolder, StageRun
from continuum.stage import Stage, rebuild_stage


class History:
    """The run folders by stage, read when first asked for."""

    def __init__(self, folder: ExperimentFolder) -> None:
        self._folder = folder
        self._runs: dict[str, list[StageRun]] | None = None

    def latest(self, stage: str) -> StageRecord | None:
        """The record of the stage's newest run; None when it never ran."""
        runs = self.runs_of(stage)
        for run in runs:
            try:
                return run.record()
            except IntegrityError:
                continue  # Not ours, or of a release whose records had other fields.
        return None

    def runs_of(self, stage: str) -> list[StageRun]:
        """The stage's runs, newest first."""
        if self._runs is None:
            self._runs = {}
            for run in self._folder.runs():
                self._runs.setdefault(run.stage_name, []).append(run)
        found = self._runs.get(stage, [])
        return sorted(found, key=StageRun.begun_at, reverse=True) if len(found) > 1 else found


def stage_of(record: StageRecord) -> Stage | None:
    """The stage as it was recorded; None when this release cannot read it."""
    try:
        return rebuild_stage(record)
    except IntegrityError:
        return None


def explain_change(
    earlier: StageRecord, stage: Stage, identity: Mapping[str, Any]
) -> tuple[Reason, ...]:
    """Why the identity is another than that of an earlier run of the stage."""
    before = stage_of(earlier)
    fields: list[FieldChanged] = []
    if before is not None and before.kind == stage.kind:
        fields = [c for c in changed_fields(before, stage) if c.role == "identity"]
    around = explain_identities(earlier.identity, identity, with_stage=not fields)
    return (*fields, *around)


def explain_identities(
    earlier: Mapping[str, Any], now: Mapping[str, Any], *, with_stage: bool
) -> Iterator[Reason]:
    """What differs between two identities: local files, inputs, the seed, the kind's version.

    Args:
        with_stage: Whether the stage's own fields are told too.
    """
    for change in diff_payloads(earlier, now):
        part, _, rest = change.path.partition(".")
        old, new = (None if value is ABSENT else value for value in (change.old, change.new))
        if part == "files":
            # All files of a stage, on one side alone, have no digest in common.
            digests = (value if isinstance(value, str) else None for value in (old, new))
            yield InputChanged(rest or "its local files", *digests)
        elif part == "inputs" and rest:
            yield UpstreamChanged(rest, old, new)
        elif part != "stage" or with_stage:
            path = rest if part == "stage" else change.path
            yield FieldChanged(path, change.old, change.new, "identity")
