"""Facts of training runs, from their records alone: state, fields, seeds, losses, tokens, time."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from continuum.errors import IntegrityError
from continuum.planning.changes import Snapshot
from continuum.planning.costs import tokens_per_s_of
from continuum.planning.folder_state import FolderState
from continuum.reporting.measures import (
    Measure,
    Reading,
    Readings,
    measures_of,
    read_measures,
    scores_in,
)
from continuum.reporting.recorded_fields import (
    OWN,
    FieldReader,
    FolderRecords,
    planned_ancestors,
    planned_fields,
)
from continuum.runs.artifacts import Artifact, Evaluation, TrainingCheckpoint
from continuum.runs.attempts import AttemptState
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.runs.records import StageRecord
from continuum.runs.run_state import RunState, read_state

Scores = Mapping[str, Mapping[Measure, float]]
"""By the digest of the model."""
COMPLETE, NOT_BEGUN, DAMAGED = "complete", "not begun", "damaged"


@dataclass(frozen=True)
class RunFacts:
    """A training run, or a stage that has not run."""

    experiment: str
    """As the user named it."""
    stage: str
    kind: str
    run: StageRun | None
    """None for a stage that has not begun."""
    state: str
    """`complete`, `damaged`, `running`, `interrupted`, `not begun`, or how its last attempt
    ended."""
    how: str = ""
    """What is damaged, the process that runs it, or the first line of the error that ended it."""
    made_at: str = ""
    """Start of its last attempt, ISO 8601 in UTC."""
    fingerprint: str = ""
    fingerprint_without_seeds: str = ""
    """Equal for runs that differ only in the seeds of training, their own or their ancestors'."""
    seeds: Mapping[str, int] = field(default_factory=dict)
    """Seeds of training by name, those of ancestors as `STAGE.NAME`."""
    parts: Mapping[str, Snapshot] = field(default_factory=dict)
    """Its own fields, and those of its ancestors by stage; without the seeds of training."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """What it measures, by the name of the column in `metrics.jsonl`."""
    digest: str | None = None
    """Of the result of a complete run."""
    readings: Readings = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    """Those that are known of `steps`, `tokens`, `tokens_total`, `elapsed_s`, `tokens_per_s`."""

    def with_scores(self, scores: Scores) -> "RunFacts":
        """The run with what stages `evaluate` measured of its result."""
        found = scores.get(self.digest, {}) if self.digest is not None else {}
        step, tokens = (self.figures.get(name) for name in ("steps", "tokens"))
        more: Readings = {
            ("scored", measure): Reading(value, int(step or 0), int(tokens or 0))
            for measure, value in found.items()
        }
        return replace(self, readings={**self.readings, **more})

    @property
    def run_name(self) -> str | None:
        return self.run.name if self.run is not None else None


class FactsReader:
    """Reads the facts of runs; what several of them share is read once."""

    def __init__(self, at: int | None = None) -> None:
        """Prepare to read.

        Args:
            at: Also read the losses at this number of training tokens.
        """
        self._at = at
        self._folders: dict[str, FolderRecords] = {}
        self._fields = FieldReader()

    def current(self, experiment: str, state: FolderState, stage: str) -> RunFacts:
        """The run of a stage as the spec has it now."""
        it, then = state.identities[stage], state.runs[stage]
        if not then.is_begun and not then.damage:
            parts = {OWN: planned_fields(state, stage), **planned_ancestors(state, stage)}
            return RunFacts(experiment, stage, it.stage.kind, None, NOT_BEGUN, parts=parts)
        now = read_state(then.run, state.owner, read_metrics=True)
        now = replace(now, artifact=None, damage=then.damage) if then.damage else now
        return self._facts(experiment, state.folder, now, stage, it.stage.kind)

    def recorded(self, experiment: str, folder: ExperimentFolder, run: StageRun) -> RunFacts:
        """A run by its folder, whether it belongs to a spec or not."""
        state = read_state(run, self._records(folder).owner, read_metrics=True)
        kind = state.record.kind if state.record is not None else ""
        stage = state.record.name if state.record is not None else run.stage_name
        return self._facts(experiment, folder, state, stage, kind)

    def _facts(
        self, experiment: str, folder: ExperimentFolder, it: RunState, stage: str, kind: str
    ) -> RunFacts:
        """The facts of a run that has begun; one that cannot be read is damaged."""
        records = self._records(folder)
        state, how = _state_of(it)
        found = RunFacts(experiment, stage, kind, it.run, state, how)
        if it.record is None:
            return found
        found = replace(
            found,
            made_at=it.record.made_at,
            fingerprint=it.record.fingerprint,
            fingerprint_without_seeds=records.fingerprint_without_seeds(it.run.name, it.record),
            seeds=records.seeds(it.record),
            parts=records.parts(it.run, it.record),
        )
        if it.damage:
            return found
        try:
            return self._measured(found, it.record, it.artifact, records)
        except IntegrityError as error:
            return replace(found, state=DAMAGED, how=str(error))

    def _records(self, folder: ExperimentFolder) -> FolderRecords:
        key = str(folder.path)
        if key not in self._folders:
            self._folders[key] = FolderRecords(folder, self._fields)
        return self._folders[key]

    def _measured(
        self, it: RunFacts, record: StageRecord, made: Artifact | None, records: FolderRecords
    ) -> RunFacts:
        assert it.run is not None
        artifact = made if isinstance(made, TrainingCheckpoint) else None
        datasets = {used.ref: records.dataset(used.run) for used in record.inputs}
        measures = measures_of(record, datasets)
        readings = read_measures(it.run, measures, artifact, self._at)
        figures = dict(_figures(it.run, artifact))
        digest = artifact.digest if artifact is not None else None
        return replace(it, measures=measures, digest=digest, readings=readings, figures=figures)


def read_scores(state: FolderState) -> Scores:
    """What the complete stages `evaluate` of an experiment have measured."""
    found: dict[str, dict[Measure, float]] = {}
    for it in state.runs.values():
        if isinstance(it.artifact, Evaluation) and it.record is not None:
            for digest, measure, value in scores_in(it.artifact, it.record):
                if value is not None and math.isfinite(value):
                    found.setdefault(digest, {})[measure] = value
    return found


def _state_of(it: RunState) -> tuple[str, str]:
    if it.damage:
        return DAMAGED, it.damage[0]
    if it.artifact is not None:
        return COMPLETE, ""
    attempt = it.attempt or AttemptState(DAMAGED, "attempts.jsonl cannot be read")
    return attempt.state, attempt.how


def _figures(run: StageRun, artifact: TrainingCheckpoint | None) -> Iterator[tuple[str, float]]:
    last: Mapping[str, Any] = {}
    if artifact is not None:
        last = {"step": artifact.step, "tokens": artifact.tokens_seen}
        last |= {"tokens_total": artifact.tokens_total} if artifact.has_known_total else {}
    else:
        last = next(reversed(run.metrics(having='"lr"')), {})
    for name, column in (("steps", "step"), ("tokens", "tokens"), ("tokens_total",) * 2):
        if last.get(column) is not None:
            yield name, last[column]
    if (elapsed_s := _elapsed_s(run)) is not None:
        yield "elapsed_s", elapsed_s
    if (speed := tokens_per_s_of(run)) is not None:
        yield "tokens_per_s", speed


def _elapsed_s(run: StageRun) -> float | None:
    """Seconds of all attempts; one that was killed counts until its last row of metrics.jsonl:
    the next run records that it was, perhaps days later."""
    started: dict[int, str] = {}
    spans: list[tuple[str, str]] = []
    for line in run.attempts():
        if line["event"] == "started":
            started[line["attempt"]] = line["at"]
        elif line["event"] == "ended" and line["status"] != "killed":
            spans += [(started.pop(line["attempt"], line["at"]), line["at"])]
    if started:
        ends = {row["attempt"]: row["at"] for row in run.metrics()}
        spans += [(at, ends[attempt]) for attempt, at in started.items() if attempt in ends]
    times = [[datetime.fromisoformat(at) for at in span] for span in spans]
    return sum((end - start).total_seconds() for start, end in times) if times else None
